// SPDX-License-Identifier: MIT

// What lies between an application and a kcp-go session: packet crypt below it, and smux above it where it is asked for.

package main

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"io"

	kcp "github.com/xtaci/kcp-go/v5"
	"github.com/xtaci/smux"
)

const (
	kcpHeadBytes     = 24
	fecHeadBytes     = 8
	sessionBufferMin = 4 << 20
)

type crypt struct {
	keyBytes int // of the 32 that a passphrase gives
	overhead int // bytes of each packet
	open     func([]byte) (kcp.BlockCrypt, error)
}

const (
	blockOverhead = 20 // nonce and crc32
	gcmOverhead   = 28 // nonce and tag
)

// By kcptun's names.
var crypts = map[string]crypt{
	"none":        {32, blockOverhead, kcp.NewNoneBlockCrypt},
	"aes":         {32, blockOverhead, kcp.NewAESBlockCrypt},
	"aes-128":     {16, blockOverhead, kcp.NewAESBlockCrypt},
	"aes-192":     {24, blockOverhead, kcp.NewAESBlockCrypt},
	"aes-128-gcm": {16, gcmOverhead, kcp.NewAESGCMCrypt},
	"salsa20":     {32, blockOverhead, kcp.NewSalsa20BlockCrypt},
	"blowfish":    {32, blockOverhead, kcp.NewBlowfishBlockCrypt},
	"twofish":     {32, blockOverhead, kcp.NewTwofishBlockCrypt},
	"cast5":       {16, blockOverhead, kcp.NewCast5BlockCrypt},
	"3des":        {24, blockOverhead, kcp.NewTripleDESBlockCrypt},
	"tea":         {16, blockOverhead, kcp.NewTEABlockCrypt},
	"xtea":        {16, blockOverhead, kcp.NewXTEABlockCrypt},
	"xor":         {32, blockOverhead, kcp.NewSimpleXORBlockCrypt},
	"sm4":         {16, blockOverhead, kcp.NewSM4BlockCrypt},
}

// prepare makes what the flags "crypt" and "key" stand for, and counts what is around a packet. The key is derived once, as kcptun does.
func (o *options) prepare() {
	if o.fecData > 0 {
		o.headers += fecHeadBytes
	}
	if o.crypt != "null" {
		known, ok := crypts[o.crypt]
		if !ok {
			fail("--crypt %s: not known", o.crypt)
		}
		secret, err := pbkdf2.Key(sha1.New, o.key, []byte("kcp-go"), 4096, 32)
		check(err)
		o.block, err = known.open(secret[:known.keyBytes])
		check(err)
		o.headers += known.overhead
	}
	if o.framing != "raw" && o.framing != "smux" {
		fail("--framing %s: raw and smux are allowed", o.framing)
	}
}

// smuxConfig has kcpsock's buffers, so that neither side waits for windows that the other does not have.
func (o *options) smuxConfig() *smux.Config {
	config := smux.DefaultConfig()
	config.Version = o.smuxVersion
	config.MaxStreamBuffer = o.rcvwnd * (o.mtu - kcpHeadBytes - o.headers)
	config.MaxReceiveBuffer = max(config.MaxStreamBuffer*3/2, sessionBufferMin)
	check(smux.VerifyConfig(config))
	return config
}

// over returns what the application reads and writes: the session itself, or the one stream above it.
func (o *options) over(s *kcp.UDPSession, server bool) io.ReadWriter {
	if o.framing == "raw" {
		return s
	}
	var stream *smux.Stream
	if server {
		session, err := smux.Server(s, o.smuxConfig())
		check(err)
		stream, err = session.AcceptStream()
		check(err)
	} else {
		session, err := smux.Client(s, o.smuxConfig())
		check(err)
		stream, err = session.OpenStream()
		check(err)
	}
	return stream
}
