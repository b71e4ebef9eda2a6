// SPDX-License-Identifier: MIT

// What lies between an application and a kcp-go session: packet crypt below it, and smux above it where it is asked for.

package bench

import (
	"io"

	kcp "github.com/xtaci/kcp-go/v5"
	"github.com/xtaci/smux"

	"kcpsock/tests/support/gopeer/crypts"
	"kcpsock/tests/support/gopeer/fatal"
)

const (
	kcpHeadBytes     = 24
	fecHeadBytes     = 8
	sessionBufferMin = 4 << 20
)

// prepare makes what the flags "crypt" and "key" stand for, and counts what is around a packet. The key is derived once.
func (o *options) prepare() {
	if o.port.FECData > 0 {
		o.headers += fecHeadBytes
	}
	var err error
	o.port.Block, err = crypts.Open(o.crypt, o.key)
	fatal.If(err)
	o.headers += crypts.Overhead(o.port.Block)
	if o.framing != "raw" && o.framing != "smux" {
		fatal.Exit("--framing %s: raw and smux are allowed", o.framing)
	}
}

// smuxConfig has kcpsock's buffers, so that neither side waits for windows that the other does not have.
func (o *options) smuxConfig() *smux.Config {
	config := smux.DefaultConfig()
	config.Version = o.smuxVersion
	config.MaxStreamBuffer = o.session.Rcvwnd * (o.session.MTU - kcpHeadBytes - o.headers)
	config.MaxReceiveBuffer = max(config.MaxStreamBuffer*3/2, sessionBufferMin)
	fatal.If(smux.VerifyConfig(config))
	return config
}

// over returns what the application reads and writes: the session itself, or the one stream above it.
func (o *options) over(s *kcp.UDPSession, server bool) io.ReadWriteCloser {
	if o.framing == "raw" {
		return s
	}
	var stream *smux.Stream
	if server {
		session, err := smux.Server(s, o.smuxConfig())
		fatal.If(err)
		stream, err = session.AcceptStream()
		fatal.If(err)
	} else {
		session, err := smux.Client(s, o.smuxConfig())
		fatal.If(err)
		stream, err = session.OpenStream()
		fatal.If(err)
	}
	return stream
}
