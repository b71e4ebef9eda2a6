// SPDX-License-Identifier: MIT

// Many sessions that sent one byte each and then nothing: what bench/idle.py weighs from outside.

package bench

import (
	"fmt"
	"runtime/debug"

	kcp "github.com/xtaci/kcp-go/v5"

	"kcpsock/tests/support/gopeer/fatal"
)

// The server keeps no goroutine per session, and gives its garbage back before it is weighed: only what a session
// itself needs is counted, as for kcpsock.
func runIdleServer(o *options) {
	l := openListener(o)
	sessions := make([]*kcp.UDPSession, 0, o.sessions)
	one := make([]byte, 1)
	for len(sessions) < o.sessions {
		s, err := l.AcceptKCP()
		fatal.If(err)
		fatal.If(o.session.Apply(s))
		_, err = s.Read(one)
		fatal.If(err)
		sessions = append(sessions, s)
	}
	debug.FreeOSMemory()
	fmt.Println("accepted", len(sessions))
	<-told()
}

func runIdleClient(o *options) {
	sessions := make([]*kcp.UDPSession, 0, o.sessions)
	for len(sessions) < o.sessions {
		s := dial(o)
		_, err := s.Write([]byte{1})
		fatal.If(err)
		sessions = append(sessions, s)
	}
	fmt.Println("connected", len(sessions))
	<-told()
}
