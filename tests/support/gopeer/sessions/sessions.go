// SPDX-License-Identifier: MIT

// Package sessions makes kcp-go's listeners and sessions, set as they are asked for.
package sessions

import (
	"errors"
	"fmt"

	kcp "github.com/xtaci/kcp-go/v5"
)

// Settings of a session.
type Settings struct {
	Nodelay, Interval, Resend, NC  int // of SetNoDelay
	Sndwnd, Rcvwnd, MTU            int
	Stream, WriteDelay, ACKNodelay bool
}

func (s *Settings) Apply(u *kcp.UDPSession) error {
	u.SetStreamMode(s.Stream)
	u.SetWriteDelay(s.WriteDelay)
	u.SetACKNoDelay(s.ACKNodelay)
	u.SetNoDelay(s.Nodelay, s.Interval, s.Resend, s.NC)
	u.SetWindowSize(s.Sndwnd, s.Rcvwnd)
	if !u.SetMtu(s.MTU) {
		return fmt.Errorf("kcp-go refuses mtu %d", s.MTU)
	}
	return nil
}

// Port is what lies below sessions: packet crypt, FEC, and the UDP socket's buffers.
type Port struct {
	Block               kcp.BlockCrypt // nil: none
	FECData, FECParity  int            // 0: no FEC
	SocketBufferedBytes int            // each way
}

type buffered interface {
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
}

func (p *Port) buffer(what buffered) error {
	return errors.Join(what.SetReadBuffer(p.SocketBufferedBytes), what.SetWriteBuffer(p.SocketBufferedBytes))
}

func (p *Port) Listen(address string) (*kcp.Listener, error) {
	l, err := kcp.ListenWithOptions(address, p.Block, p.FECData, p.FECParity)
	if err != nil {
		return nil, err
	}
	return l, p.buffer(l)
}

// Dial's session has kcp-go's settings until they are applied.
func (p *Port) Dial(address string) (*kcp.UDPSession, error) {
	u, err := kcp.DialWithOptions(address, p.Block, p.FECData, p.FECParity)
	if err != nil {
		return nil, err
	}
	return u, p.buffer(u)
}
