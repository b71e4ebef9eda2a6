// SPDX-License-Identifier: MIT

// smux sessions over kcp-go connections, and their streams.

package calls

import (
	"fmt"
	"time"

	"github.com/xtaci/smux"
)

func session(a struct {
	Conn          int     `json:"conn"`
	Server        bool    `json:"server"`
	Version       int     `json:"version"`
	Keepalive     float64 `json:"keepalive"` // seconds; 0: none
	Timeout       float64 `json:"timeout"`   // seconds
	FrameBytes    int     `json:"frame_bytes"`
	ReceiveBuffer int     `json:"receive_buffer"`
	StreamBuffer  int     `json:"stream_buffer"`
}) (any, error) {
	c, err := find[*conn](a.Conn)
	if err != nil {
		return nil, err
	}
	config := smux.DefaultConfig()
	config.Version = a.Version
	config.KeepAliveDisabled = a.Keepalive == 0
	if a.Keepalive > 0 {
		config.KeepAliveInterval = time.Duration(a.Keepalive * float64(time.Second))
		config.KeepAliveTimeout = time.Duration(a.Timeout * float64(time.Second))
	}
	for _, given := range []struct {
		value int
		field *int
	}{
		{a.FrameBytes, &config.MaxFrameSize}, {a.ReceiveBuffer, &config.MaxReceiveBuffer},
		{a.StreamBuffer, &config.MaxStreamBuffer},
	} {
		if given.value > 0 {
			*given.field = given.value
		}
	}
	if err := smux.VerifyConfig(config); err != nil {
		return nil, err
	}
	start := smux.Client
	if a.Server {
		start = smux.Server
	}
	s, err := start(c.ReadWriteCloser, config)
	if err != nil {
		return nil, err
	}
	return keep(s), nil
}

type whichSession struct {
	Session int `json:"session"`
}

func open(a whichSession) (any, error) {
	s, err := find[*smux.Session](a.Session)
	if err != nil {
		return nil, err
	}
	stream, err := s.OpenStream()
	if err != nil {
		return nil, err
	}
	return keep(&conn{ReadWriteCloser: stream}), nil
}

func acceptStream(a whichSession) (any, error) {
	s, err := find[*smux.Session](a.Session)
	if err != nil {
		return nil, err
	}
	stream, err := s.AcceptStream()
	if err != nil {
		return nil, err
	}
	return keep(&conn{ReadWriteCloser: stream}), nil
}

// sessionEnd waits until smux has closed the session by itself; false when the time is over before.
func sessionEnd(a struct {
	whichSession
	Seconds float64 `json:"seconds"`
}) (any, error) {
	s, err := find[*smux.Session](a.Session)
	if err != nil {
		return nil, err
	}
	select {
	case <-s.CloseChan():
		return true, nil
	case <-time.After(time.Duration(a.Seconds * float64(time.Second))):
		return false, nil
	}
}

// streams tells how many are open, as smux counts them.
func streams(a whichSession) (any, error) {
	s, err := find[*smux.Session](a.Session)
	if err != nil {
		return nil, err
	}
	if s.IsClosed() {
		return nil, fmt.Errorf("the session is closed")
	}
	return s.NumStreams(), nil
}
