// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"
	"io"

	kcp "github.com/xtaci/kcp-go/v5"
	"golang.org/x/crypto/chacha20poly1305"
)

// On the wire before the payload, for all but AEADs: a nonce, then the payload's crc32; all of it is encrypted.
const (
	nonceBytes = 16
	headBytes  = nonceBytes + 4
)

// kinds has the names that kcptun and kcpsock know, with the length of key that kcptun gives them. (Blowfish's and
// twofish's speed doesn't depend on it.)
var kinds = map[string]struct {
	keyBytes int
	open     func(key []byte) (kcp.BlockCrypt, error)
}{
	"none":              {32, kcp.NewNoneBlockCrypt},
	"xor":               {32, kcp.NewSimpleXORBlockCrypt},
	"salsa20":           {32, kcp.NewSalsa20BlockCrypt},
	"aes":               {32, kcp.NewAESBlockCrypt},
	"aes-192":           {24, kcp.NewAESBlockCrypt},
	"aes-128":           {16, kcp.NewAESBlockCrypt},
	"blowfish":          {32, kcp.NewBlowfishBlockCrypt},
	"twofish":           {32, kcp.NewTwofishBlockCrypt},
	"cast5":             {16, kcp.NewCast5BlockCrypt},
	"3des":              {24, kcp.NewTripleDESBlockCrypt},
	"tea":               {16, kcp.NewTEABlockCrypt},
	"xtea":              {16, kcp.NewXTEABlockCrypt},
	"sm4":               {16, kcp.NewSM4BlockCrypt},
	"aes-128-gcm":       {16, kcp.NewAESGCMCrypt},
	"aes-256-gcm":       {32, kcp.NewAESGCMCrypt},
	"chacha20-poly1305": {32, newChaCha20Poly1305},
}

func newChaCha20Poly1305(key []byte) (kcp.BlockCrypt, error) {
	aead, err := chacha20poly1305.New(key)
	return kcp.NewAEADCrypt(aead), err
}

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

func (c *checked) around() (int, int) { return headBytes, 0 }

func (c *checked) seal(packet []byte) {
	io.ReadFull(c.entropy, packet[:nonceBytes])
	binary.LittleEndian.PutUint32(packet[nonceBytes:], crc32.ChecksumIEEE(packet[headBytes:]))
	c.block.Encrypt(packet, packet)
}

func (c *checked) open(packet []byte) []byte {
	c.block.Decrypt(packet, packet)
	if binary.LittleEndian.Uint32(packet[nonceBytes:]) != crc32.ChecksumIEEE(packet[headBytes:]) {
		return nil
	}
	return packet[headBytes:]
}

// authenticated is an AEAD as kcp-go's session uses it. (Its own type for that is not exported, its methods are.)
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
	kind, known := kinds[name]
	if !known {
		fail("--crypt %q: kcp-go has not got it", name)
	}
	key := make([]byte, kind.keyBytes)
	rand.Read(key)
	block, err := kind.open(key)
	check(err)
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
		fail("%s: the payload did not come back", o.crypt)
	}
	switch o.op {
	case "seal": // over and over, in place: what is sealed makes no difference
		return work{func() {}, seal, o.bytes * o.batch}
	case "open":
		return work{func() { copy(space, sealed) }, func() {
			for _, packet := range packets {
				if c.open(packet) == nil {
					fail("%s: a packet was bad", o.crypt)
				}
			}
		}, o.bytes * o.batch}
	}
	fail("crypt --op %q: seal or open is allowed", o.op)
	return work{}
}
