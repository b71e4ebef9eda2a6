// SPDX-License-Identifier: MIT

// kcp-go: listeners, connections, packet crypt, out-of-band packets, counters.

package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	kcp "github.com/xtaci/kcp-go/v5"
	"golang.org/x/crypto/chacha20poly1305"
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

// Block ciphers and the like, by kcptun's names, with the bytes of the key that each takes.
var ciphers = map[string]struct {
	keyBytes int
	make     func([]byte) (kcp.BlockCrypt, error)
}{
	"aes": {32, kcp.NewAESBlockCrypt}, "aes-128": {16, kcp.NewAESBlockCrypt}, "aes-192": {24, kcp.NewAESBlockCrypt},
	"salsa20": {32, kcp.NewSalsa20BlockCrypt}, "blowfish": {32, kcp.NewBlowfishBlockCrypt},
	"twofish": {32, kcp.NewTwofishBlockCrypt}, "cast5": {16, kcp.NewCast5BlockCrypt},
	"3des": {24, kcp.NewTripleDESBlockCrypt}, "tea": {16, kcp.NewTEABlockCrypt}, "xtea": {16, kcp.NewXTEABlockCrypt},
	"xor": {32, kcp.NewSimpleXORBlockCrypt}, "sm4": {16, kcp.NewSM4BlockCrypt}, "none": {32, kcp.NewNoneBlockCrypt},
	"aes-128-gcm": {16, kcp.NewAESGCMCrypt},
	// Not in kcptun: kcp-go wraps any cipher.AEAD.
	"aes-192-gcm": {24, aead(newGCM)}, "aes-256-gcm": {32, aead(newGCM)},
	"chacha20-poly1305": {32, aead(chacha20poly1305.New)},
}

func aead(make func([]byte) (cipher.AEAD, error)) func([]byte) (kcp.BlockCrypt, error) {
	return func(key []byte) (kcp.BlockCrypt, error) {
		a, err := make(key)
		if err != nil {
			return nil, err
		}
		return kcp.NewAEADCrypt(a), nil
	}
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// crypt returns nil for "null" and "": no crypt at all.
func (s *settings) crypt() (kcp.BlockCrypt, error) {
	if s.Crypt == "" || s.Crypt == "null" {
		return nil, nil
	}
	c, ok := ciphers[s.Crypt]
	if !ok {
		return nil, fmt.Errorf("there is no crypt %q", s.Crypt)
	}
	pass, err := pbkdf2.Key(sha1.New, s.Key, []byte("kcp-go"), 4096, 32)
	if err != nil {
		return nil, err
	}
	return c.make(pass[:c.keyBytes])
}

func (s *settings) applyTo(u *kcp.UDPSession) error {
	m, ok := modes[s.Mode]
	if !ok {
		return fmt.Errorf("there is no mode %q", s.Mode)
	}
	u.SetNoDelay(m[0], m[1], m[2], m[3])
	u.SetStreamMode(s.Stream == nil || *s.Stream)
	u.SetWriteDelay(false)
	u.SetWindowSize(s.Sndwnd, s.Rcvwnd)
	if !u.SetMtu(s.MTU) {
		return fmt.Errorf("kcp-go refuses mtu %d", s.MTU)
	}
	return nil
}

// A listener, with what its connections are set to.
type listener struct {
	*kcp.Listener
	settings settings
}

func listen(s settings) (any, error) {
	block, err := s.crypt()
	if err != nil {
		return nil, err
	}
	l, err := kcp.ListenWithOptions("127.0.0.1:0", block, s.DS, s.PS)
	if err != nil {
		return nil, err
	}
	l.SetReadBuffer(sockbufBytes)
	l.SetWriteBuffer(sockbufBytes)
	return map[string]int{"listener": keep(&listener{l, s}), "port": l.Addr().(*net.UDPAddr).Port}, nil
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
			return newConn(u, &l.settings)
		}
		u.Close()
	}
}

func dial(a struct {
	settings
	Addr string `json:"addr"`
}) (any, error) {
	block, err := a.crypt()
	if err != nil {
		return nil, err
	}
	u, err := kcp.DialWithOptions(a.Addr, block, a.DS, a.PS)
	if err != nil {
		return nil, err
	}
	u.SetReadBuffer(sockbufBytes)
	u.SetWriteBuffer(sockbufBytes)
	return newConn(u, &a.settings)
}

func newConn(u *kcp.UDPSession, s *settings) (any, error) {
	c := &conn{ReadWriteCloser: u}
	c.oob.came = sync.NewCond(&c.oob)
	id := keep(c)
	if s.DS > 0 {
		if err := u.SetOOBHandler(c.takeOOB); err != nil {
			return nil, err
		}
	}
	return id, s.applyTo(u)
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
