// SPDX-License-Identifier: MIT

// kcp-go: listeners, connections, out-of-band packets, counters.

package calls

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	kcp "github.com/xtaci/kcp-go/v5"

	"kcpsock/tests/support/gopeer/crypts"
	"kcpsock/tests/support/gopeer/sessions"
)

type settings struct {
	Crypt  string `json:"crypt"`
	Key    string `json:"key"`
	DS     int    `json:"ds"`
	PS     int    `json:"ps"`
	MTU    int    `json:"mtu"`
	Mode   string `json:"mode"`
	Sndwnd int    `json:"sndwnd"`
	Rcvwnd int    `json:"rcvwnd"`
	Stream *bool  `json:"stream"`
}

const sockbufBytes = 4 << 20

// nodelay, interval, resend, nc of kcptun's modes.
var modes = map[string][4]int{
	"normal": {0, 40, 2, 1}, "fast": {0, 30, 2, 1}, "fast2": {1, 20, 2, 1}, "fast3": {1, 10, 2, 1},
}

func strict(raw json.RawMessage, to any) error {
	if len(raw) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(to)
}

// opened gives what the settings say of packets, and of a session.
func (s *settings) opened() (*sessions.Port, *sessions.Settings, error) {
	m, ok := modes[s.Mode]
	if !ok {
		return nil, nil, fmt.Errorf("there is no mode %q", s.Mode)
	}
	block, err := crypts.Open(s.Crypt, s.Key)
	return &sessions.Port{Block: block, FECData: s.DS, FECParity: s.PS, SocketBufferedBytes: sockbufBytes}, &sessions.Settings{
		Nodelay: m[0], Interval: m[1], Resend: m[2], NC: m[3],
		Sndwnd: s.Sndwnd, Rcvwnd: s.Rcvwnd, MTU: s.MTU, Stream: s.Stream == nil || *s.Stream,
	}, err
}

// A listener, with what its connections are set to.
type listener struct {
	*kcp.Listener
	settings *sessions.Settings
	hasFEC   bool
}

func listen(s settings) (any, error) {
	port, set, err := s.opened()
	if err != nil {
		return nil, err
	}
	l, err := port.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return map[string]int{"listener": keep(&listener{l, set, s.DS > 0}), "port": l.Addr().(*net.UDPAddr).Port}, nil
}

// accept takes the next session, or the next from that port: any packet begins one, also the last of a session whose
// other end had this listener's port before.
func accept(a struct {
	Listener int `json:"listener"`
	PeerPort int `json:"peer_port"` // 0: any
}) (any, error) {
	l, err := find[*listener](a.Listener)
	if err != nil {
		return nil, err
	}
	for {
		u, err := l.AcceptKCP()
		if err != nil {
			return nil, err
		}
		if a.PeerPort == 0 || u.RemoteAddr().(*net.UDPAddr).Port == a.PeerPort {
			return newConn(u, l.settings, l.hasFEC)
		}
		u.Close()
	}
}

func dial(a struct {
	settings
	Addr string `json:"addr"`
}) (any, error) {
	port, set, err := a.opened()
	if err != nil {
		return nil, err
	}
	u, err := port.Dial(a.Addr)
	if err != nil {
		return nil, err
	}
	return newConn(u, set, a.DS > 0)
}

func newConn(u *kcp.UDPSession, s *sessions.Settings, hasFEC bool) (any, error) {
	c := &conn{ReadWriteCloser: u}
	c.oob.came = sync.NewCond(&c.oob)
	id := keep(c)
	if hasFEC {
		if err := u.SetOOBHandler(c.takeOOB); err != nil {
			return nil, err
		}
	}
	return id, s.Apply(u)
}

// ---- out of band ----

// oobBox holds what came out of band.
type oobBox struct {
	sync.Mutex
	came *sync.Cond
	all  [][]byte
}

func (c *conn) takeOOB(data []byte) {
	c.oob.Lock()
	defer c.oob.Unlock()
	c.oob.all = append(c.oob.all, bytes.Clone(data))
	c.oob.came.Broadcast()
}

func oobSend(a struct {
	Conn int    `json:"conn"`
	Data []byte `json:"data"` // base64
}) (any, error) {
	c, err := find[*conn](a.Conn)
	if err != nil {
		return nil, err
	}
	return nil, c.ReadWriteCloser.(*kcp.UDPSession).SendOOB(a.Data)
}

// oobWait returns all that came, when it is `count` at least, or when the time is over.
func oobWait(a struct {
	Conn    int     `json:"conn"`
	Count   int     `json:"count"`
	Seconds float64 `json:"seconds"`
}) (any, error) {
	c, err := find[*conn](a.Conn)
	if err != nil {
		return nil, err
	}
	over := false
	timer := time.AfterFunc(time.Duration(a.Seconds*float64(time.Second)), func() {
		c.oob.Lock()
		defer c.oob.Unlock()
		over = true
		c.oob.came.Broadcast()
	})
	defer timer.Stop()
	c.oob.Lock()
	defer c.oob.Unlock()
	for len(c.oob.all) < a.Count && !over {
		c.oob.came.Wait()
	}
	return append([][]byte{}, c.oob.all...), nil
}

// ---- about the process ----

func snmp(nothing) (any, error) {
	return kcp.DefaultSnmp.Copy(), nil
}

// versions tells what this program was built from.
func versions(nothing) (any, error) {
	found := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		found["go"] = info.GoVersion
		for _, module := range info.Deps {
			found[module.Path] = module.Version
		}
	}
	return found, nil
}
