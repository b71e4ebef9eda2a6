// SPDX-License-Identifier: MIT

package micro

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"
	"io"

	kcp "github.com/xtaci/kcp-go/v5"

	"kcpsock/tests/support/gopeer/crypts"
	"kcpsock/tests/support/gopeer/fatal"
)

// A packet's way through the session's crypt, in place. The result of open is the payload, nil if the packet is bad.
type crypt interface {
	around() (head, tail int)
	seal(packet []byte)
	open(packet []byte) []byte
}

// checked is a kcp.BlockCrypt as kcp-go's session uses it.
type checked struct {
	block   kcp.BlockCrypt
	entropy io.Reader
}

func (c *checked) around() (int, int) { return crypts.HeadBytes, 0 }

func (c *checked) seal(packet []byte) {
	io.ReadFull(c.entropy, packet[:crypts.NonceBytes])
	binary.LittleEndian.PutUint32(packet[crypts.NonceBytes:], crc32.ChecksumIEEE(packet[crypts.HeadBytes:]))
	c.block.Encrypt(packet, packet)
}

func (c *checked) open(packet []byte) []byte {
	c.block.Decrypt(packet, packet)
	if binary.LittleEndian.Uint32(packet[crypts.NonceBytes:]) != crc32.ChecksumIEEE(packet[crypts.HeadBytes:]) {
		return nil
	}
	return packet[crypts.HeadBytes:]
}

// authenticated is an AEAD as kcp-go's session uses it.
type authenticated struct {
	aead    cipher.AEAD
	entropy io.Reader
}

func (c *authenticated) around() (int, int) { return c.aead.NonceSize(), c.aead.Overhead() }

func (c *authenticated) seal(packet []byte) {
	nonce := packet[:c.aead.NonceSize()]
	io.ReadFull(c.entropy, nonce)
	c.aead.Seal(nonce, nonce, packet[len(nonce):len(packet)-c.aead.Overhead()], nil)
}

func (c *authenticated) open(packet []byte) []byte {
	nonce, sealed := packet[:c.aead.NonceSize()], packet[c.aead.NonceSize():]
	payload, err := c.aead.Open(sealed[:0], nonce, sealed, nil)
	if err != nil {
		return nil
	}
	return payload
}

func newCrypt(name string) crypt {
	kind, err := crypts.Find(name)
	fatal.If(err)
	key := make([]byte, kind.KeyBytes)
	rand.Read(key)
	block, err := kind.Open(key)
	fatal.If(err)
	if aead, is := block.(cipher.AEAD); is {
		return &authenticated{aead, kcp.NewEntropy()}
	}
	return &checked{block, kcp.NewEntropy()}
}

func cryptWork(o *options) work {
	c := newCrypt(o.crypt)
	head, tail := c.around()
	size := head + o.bytes + tail
	space := make([]byte, size*o.batch)
	rand.Read(space)
	packets := make([][]byte, o.batch)
	for i := range packets {
		packets[i] = space[size*i : size*(i+1) : size*(i+1)]
	}
	seal := func() {
		for _, packet := range packets {
			c.seal(packet)
		}
	}
	payload := bytes.Clone(packets[0][head : head+o.bytes])
	seal()
	sealed := bytes.Clone(space)
	if !bytes.Equal(c.open(packets[0]), payload) {
		fatal.Exit("%s: the payload did not come back", o.crypt)
	}
	switch o.op {
	case "seal": // over and over, in place: what is sealed makes no difference
		return work{func() {}, seal, o.bytes * o.batch}
	case "open":
		return work{func() { copy(space, sealed) }, func() {
			for _, packet := range packets {
				if c.open(packet) == nil {
					fatal.Exit("%s: a packet was bad", o.crypt)
				}
			}
		}, o.bytes * o.batch}
	}
	fatal.Exit("crypt --op %q: seal or open is allowed", o.op)
	return work{}
}
