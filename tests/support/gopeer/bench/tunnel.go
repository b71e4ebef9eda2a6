// SPDX-License-Identifier: MIT

// tunnel: TCP connections carried over KCP, each in a session of its own, so that programs that know no kcp-go are measured over
// it; a client that knows KCP needs the far side alone. KCP has no end of stream: what the far side holds of a connection that is
// over stays until this process ends.

package bench

import (
	"fmt"
	"io"
	"net"

	"kcpsock/tests/support/gopeer/fatal"
)

func runTunnelServer(o *options) {
	l := openListener(o)
	go func() {
		for {
			s, err := l.AcceptKCP()
			fatal.If(err)
			fatal.If(o.session.Apply(s))
			go func() {
				channel := o.over(s, true)
				c, err := net.Dial("tcp", o.target)
				fatal.If(err)
				join(channel, c)
			}()
		}
	}()
	<-told()
}

func runTunnelClient(o *options) {
	l, err := net.Listen("tcp", o.listen)
	fatal.If(err)
	fmt.Println("port", l.Addr().(*net.TCPAddr).Port)
	go func() {
		for {
			c, err := l.Accept()
			fatal.If(err)
			go func() { join(o.over(dial(o), false), c) }()
		}
	}()
	<-told()
}

func join(s io.ReadWriteCloser, c net.Conn) {
	go func() {
		io.Copy(c, s)
		c.Close()
	}()
	io.Copy(s, c) // until the program has closed its connection
	s.Close()
	c.Close()
}
