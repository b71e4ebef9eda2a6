// SPDX-License-Identifier: MIT

// Package micro is the kcp-go end of bench/micro.py: packet crypt and FEC alone, in one goroutine, without sockets.
// bench/peers/kcpsock_micro.py takes the same command line and prints the same line:
//
//	crypt --crypt NAME --op seal|open     what kcp-go's session does to each packet
//	fec --op encode|decode --losses N     klauspost/reedsolomon, made and called as kcp-go does
//	null                                  the same loop around nothing: what the harness costs
//
// The result is one JSON object: MB/s of each slice (null: ns of each call, averaged over a slice).
package micro

import (
	"encoding/json"
	"flag"
	"fmt"
	"time"

	"kcpsock/tests/support/gopeer/fatal"
)

const sliceTime = 4 * time.Millisecond // of measured time; a pause that falls into one slice leaves the median alone

type options struct {
	crypt, op            string
	bytes, batch         int
	data, parity, losses int
	groups               int
	seconds, timeout     float64
}

// work is one call: reset, whose time does not count, brings everything into the state that run wants.
type work struct {
	reset, run func()
	bytes      int // of payload that one run is through with
}

func parse(args []string) *options {
	o := &options{}
	f := flag.NewFlagSet("gopeer micro", flag.ExitOnError)
	f.StringVar(&o.crypt, "crypt", "aes", "name, as kcptun has it")
	f.StringVar(&o.op, "op", "seal", "seal or open; encode or decode")
	f.IntVar(&o.bytes, "bytes", 1400, "payload of a packet")
	f.IntVar(&o.batch, "batch", 64, "crypt: packets a call")
	f.IntVar(&o.data, "data", 10, "fec: data packets of a group")
	f.IntVar(&o.parity, "parity", 3, "fec: parity packets of a group")
	f.IntVar(&o.losses, "losses", 1, "fec, decode: data packets lost in each group")
	f.IntVar(&o.groups, "groups", 1, "fec: groups a call")
	f.Float64Var(&o.seconds, "seconds", 0.2, "measured time")
	f.Float64Var(&o.timeout, "timeout", 60, "seconds after which the process gives up")
	f.Parse(args) // ExitOnError: it does not return an error
	if f.NArg() > 0 {
		fatal.Exit("unexpected argument %q", f.Arg(0))
	}
	return o
}

// Run does one command.
func Run(args []string) {
	commands := map[string]func(*options) work{"crypt": cryptWork, "fec": fecWork, "null": nullWork}
	if len(args) == 0 || commands[args[0]] == nil {
		fatal.Exit("usage: gopeer micro crypt|fec|null [--flag=value ...]")
	}
	o := parse(args[1:])
	fatal.After(o.timeout)
	report(args[0], measure(commands[args[0]](o), o.seconds))
}

type slice struct {
	calls int
	bytes int
	took  time.Duration
}

// measure runs w for so many seconds of measured time, a slice at least. The slice before the first warms up.
func measure(w work, seconds float64) []slice {
	var slices []slice
	left := time.Duration(seconds * float64(time.Second))
	for number := 0; number < 2 || left > 0; number++ {
		var s slice
		for s.took < sliceTime {
			w.reset()
			start := time.Now()
			w.run()
			s.took += time.Since(start)
			s.bytes += w.bytes
			s.calls++
		}
		if number > 0 {
			slices = append(slices, s)
			left -= s.took
		}
	}
	return slices
}

func report(command string, slices []slice) {
	values := make([]float64, len(slices))
	for i, s := range slices {
		if values[i] = float64(s.bytes) / s.took.Seconds() / 1e6; command == "null" {
			values[i] = float64(s.took.Nanoseconds()) / float64(s.calls)
		}
	}
	line, err := json.Marshal(map[string]any{"slices": values})
	fatal.If(err)
	fmt.Println(string(line))
}

func nullWork(*options) work {
	return work{func() {}, func() {}, 0}
}
