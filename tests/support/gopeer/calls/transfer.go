// SPDX-License-Identifier: MIT

// Bytes over a connection: a kcp-go session or a smux stream, both are a conn here. An error of the connection is part
// of the result, since tests ask what Go sees.

package calls

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const chunkBytes = 1 << 16

type conn struct {
	io.ReadWriteCloser
	written atomic.Int64
	oob     oobBox
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.ReadWriteCloser.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// passed is what went one way.
type passed struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	Error  string `json:"error"` // "EOF" at the end of the stream
	Sizes  []int  `json:"sizes"` // of the messages, in message mode
}

type tally struct {
	hash.Hash
	passed
}

func newTally() *tally { return &tally{Hash: sha256.New()} }

func (t *tally) add(data []byte) {
	t.Write(data)
	t.Bytes += int64(len(data))
}

func (t *tally) end(err error) *passed {
	t.SHA256 = hex.EncodeToString(t.Sum(nil))
	t.Error = errorText(err)
	return &t.passed
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

type which struct {
	Conn int `json:"conn"`
}

type amount struct {
	which
	Bytes   int64  `json:"bytes"` // receive, echo: 0: until the end
	Seed    uint64 `json:"seed"`
	PauseUS int    `json:"pause_us"` // receive: after each Read, for a slow reader
}

func noise(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

func send(a amount) (any, error) {
	c, err := find[*conn](a.Conn)
	if err != nil {
		return nil, err
	}
	return c.send(a), nil
}

func (c *conn) send(a amount) *passed {
	t, source, chunk := newTally(), noise(a.Seed), make([]byte, chunkBytes)
	for t.Bytes < a.Bytes {
		data := chunk[:min(chunkBytes, a.Bytes-t.Bytes)]
		io.ReadFull(source, data)
		n, err := c.Write(data)
		t.add(data[:n])
		if err != nil {
			return t.end(err)
		}
	}
	return t.end(nil)
}

// each calls f with all that comes, until `limit` bytes (0: no limit), the end, or an error.
func (c *conn) each(limit int64, f func([]byte) error) *passed {
	t, buffer := newTally(), make([]byte, chunkBytes)
	for limit == 0 || t.Bytes < limit {
		n, err := c.Read(buffer)
		t.add(buffer[:n])
		if err == nil {
			err = f(buffer[:n])
		}
		if err != nil {
			return t.end(err)
		}
	}
	return t.end(nil)
}

func receive(a amount) (any, error) {
	c, err := find[*conn](a.Conn)
	if err != nil {
		return nil, err
	}
	return c.each(a.Bytes, func([]byte) error {
		time.Sleep(time.Duration(a.PauseUS) * time.Microsecond)
		return nil
	}), nil
}

func echo(a amount) (any, error) {
	c, err := find[*conn](a.Conn)
	if err != nil {
		return nil, err
	}
	return c.each(a.Bytes, func(data []byte) error {
		_, err := c.Write(data)
		return err
	}), nil
}

// exchange sends while it receives as much.
func exchange(a amount) (any, error) {
	c, err := find[*conn](a.Conn)
	if err != nil {
		return nil, err
	}
	done := make(chan *passed)
	go func() { done <- c.send(a) }()
	got := c.each(a.Bytes, func([]byte) error { return nil })
	return map[string]*passed{"received": got, "sent": <-done}, nil
}

// sent tells how many bytes Write has taken so far.
func sent(a which) (any, error) {
	c, err := find[*conn](a.Conn)
	if err != nil {
		return nil, err
	}
	return c.written.Load(), nil
}

func closeWrite(a which) (any, error) {
	c, err := find[*conn](a.Conn)
	if err != nil {
		return nil, err
	}
	half, ok := c.ReadWriteCloser.(interface{ CloseWrite() error })
	if !ok {
		return nil, fmt.Errorf("a %T has no CloseWrite", c.ReadWriteCloser)
	}
	return nil, half.CloseWrite()
}

// closeOne returns the error's text, "" for none: of interest when it was closed before.
func closeOne(a struct {
	Number int `json:"number"`
}) (any, error) {
	what, err := find[io.Closer](a.Number)
	if err != nil {
		return nil, err
	}
	return errorText(what.Close()), nil
}

// ---- message mode: one Write, one Read ----

const messageBytesMax = 1 << 20

func sendMessages(a struct {
	amount
	Sizes []int `json:"sizes"`
}) (any, error) {
	c, err := find[*conn](a.Conn)
	if err != nil {
		return nil, err
	}
	t, source := newTally(), noise(a.Seed)
	for _, size := range a.Sizes {
		message := make([]byte, size)
		io.ReadFull(source, message)
		if _, err := c.Write(message); err != nil {
			return t.end(err), nil
		}
		t.add(message)
		t.Sizes = append(t.Sizes, size)
	}
	return t.end(nil), nil
}

func receiveMessages(a amount) (any, error) {
	return eachMessage(a, func(*conn, []byte) error { return nil })
}

func echoMessages(a amount) (any, error) {
	return eachMessage(a, func(c *conn, message []byte) error {
		_, err := c.Write(message)
		return err
	})
}

func eachMessage(a amount, f func(*conn, []byte) error) (any, error) {
	c, err := find[*conn](a.Conn)
	if err != nil {
		return nil, err
	}
	t, buffer := newTally(), make([]byte, messageBytesMax)
	for t.Bytes < a.Bytes {
		n, err := c.Read(buffer)
		if err == nil {
			err = f(c, buffer[:n])
		}
		if err != nil {
			return t.end(err), nil
		}
		t.add(buffer[:n])
		t.Sizes = append(t.Sizes, n)
	}
	return t.end(nil), nil
}
