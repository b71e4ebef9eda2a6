// SPDX-License-Identifier: MIT

// sink and echo. A sink's rate is taken where the data arrives: by the server, from its first read to its last.

package bench

import (
	"bytes"
	"crypto/rand"
	"io"
	"sort"
	"time"

	kcp "github.com/xtaci/kcp-go/v5"

	"kcpsock/tests/support/gopeer/fatal"
)

const readBytes = 1 << 20

func runServer(o *options) {
	l := openListener(o)
	s, err := l.AcceptKCP()
	fatal.If(err)
	fatal.If(o.session.Apply(s))
	report(counted(serve(o, o.over(s, true))))
	<-told()
}

func runClient(o *options) {
	c := o.over(dial(o), false)
	if o.mode == "echo" {
		result := counted(measureEcho(o, c))
		<-told()
		report(result)
		return
	}
	end, cpu := told(), cpuSeconds()
	go pour(o, c)
	<-end // what was written may still be on its way: only the server knows when it is through
	report(counted(map[string]any{"cpu_s": cpuSeconds() - cpu}))
}

// counted adds kcp-go's counters, of the whole process.
func counted(result map[string]any) map[string]any {
	result["snmp"] = kcp.DefaultSnmp.Copy()
	return result
}

// runNull reports both ends' loops in turn.
func runNull(o *options) {
	if o.mode == "echo" {
		report(measureEcho(o, &nothing{}))
		return
	}
	start := time.Now()
	pour(o, &nothing{})
	result := serve(o, &nothing{})
	result["seconds"] = time.Since(start).Seconds()
	report(result)
}

// nothing is a connection without a transport: writes are lost, reads yield whatever the last write left.
type nothing struct{ last []byte }

func (c *nothing) Write(p []byte) (int, error) { c.last = p; return len(p), nil }
func (c *nothing) Read(p []byte) (int, error) {
	if c.last != nil {
		return copy(p, c.last), nil
	}
	return min(len(p), 65536), nil
}

func serve(o *options, c io.ReadWriter) map[string]any {
	buffer := make([]byte, readBytes)
	var got int64
	var start time.Time
	var cpu float64
	limit := time.Duration(o.seconds * float64(time.Second))
	for {
		n, err := c.Read(buffer)
		if err != nil {
			fatal.Exit("read after %d of %d bytes: %v", got, o.bytes, err)
		}
		if got == 0 {
			start, cpu = time.Now(), cpuSeconds()
		}
		if o.mode == "echo" {
			_, err = c.Write(buffer[:n])
			fatal.If(err)
		}
		got += int64(n)
		if (o.bytes > 0 && got >= o.bytes) || (limit > 0 && time.Since(start) >= limit) {
			seconds := time.Since(start).Seconds()
			return map[string]any{"bytes": got, "seconds": seconds, "cpu_s": cpuSeconds() - cpu}
		}
	}
}

// pour writes o.bytes, or for ever when that is 0: the parent ends it.
func pour(o *options, c io.Writer) {
	block := make([]byte, o.write)
	rand.Read(block)
	for left := o.bytes; o.bytes == 0 || left > 0; left -= int64(o.write) {
		if o.bytes > 0 && left < int64(len(block)) {
			block = block[:left]
		}
		_, err := c.Write(block)
		fatal.If(err)
	}
}

func measureEcho(o *options, c io.ReadWriter) map[string]any {
	message, answer := make([]byte, o.size), make([]byte, o.size)
	rand.Read(message)
	microseconds := make([]float64, 0, o.rounds)
	var seconds, cpu float64
	for i := -o.warmup; i < o.rounds; i++ {
		if i == 0 {
			cpu = cpuSeconds()
		}
		start := time.Now()
		_, err := c.Write(message)
		fatal.If(err)
		_, err = io.ReadFull(c, answer)
		fatal.If(err)
		took := time.Since(start).Seconds()
		if !bytes.Equal(message, answer) {
			fatal.Exit("round %d came back changed", i)
		}
		if i >= 0 {
			seconds += took
			microseconds = append(microseconds, took*1e6)
		}
	}
	cpu = cpuSeconds() - cpu
	sort.Float64s(microseconds)
	at := func(share float64) float64 { return microseconds[int(share*float64(len(microseconds)-1))] }
	return map[string]any{
		"bytes": int64(o.size) * int64(o.rounds), "seconds": seconds, "cpu_s": cpu, "p50_us": at(0.5), "p99_us": at(0.99),
	}
}
