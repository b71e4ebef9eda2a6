// SPDX-License-Identifier: MIT

// The kcp-go end of the benchmarks. kcpsock_peer.py takes the same command line and prints the same lines, so that
// bench/compare.py and bench/idle.py drive both alike:
//
//	server --mode sink|echo --bytes N    prints "port P", then its result when N bytes have arrived
//	client --mode sink|echo --addr A     sends; prints its result when told to end
//	idle-server, idle-client --sessions N   "accepted N", "connected N", then hold still
//	crowd-server, crowd-client --sessions N --size B   "connected N", then each session is echoed B bytes once a second
//	null --mode sink|echo                the same loops over a connection that does nothing: what the harness costs
//
// Results are one JSON object a line. A line, or the end, of stdin is the order to end; --timeout ends it anyway.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	kcp "github.com/xtaci/kcp-go/v5"
)

type options struct {
	mode, listen, addr, fec, crypt, key, framing       string
	bytes                                              int64
	seconds, timeout                                   float64
	write, size, rounds, warmup, sessions              int
	sndwnd, rcvwnd, mtu, nodelay, interval, resend, nc int
	sockbuf, fecData, fecParity, smuxVersion           int
	headers                                            int // bytes of crypt and FEC in a packet
	block                                              kcp.BlockCrypt
	stream, writeDelay, ackNodelay                     bool
}

func parse(args []string) *options {
	o := &options{}
	f := flag.NewFlagSet("kcpgo_peer", flag.ExitOnError)
	f.StringVar(&o.mode, "mode", "sink", "sink or echo")
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "address a server binds")
	f.StringVar(&o.addr, "addr", "", "address a client connects to")
	f.Int64Var(&o.bytes, "bytes", 0, "bytes until the end, 0 = no such end")
	f.Float64Var(&o.seconds, "seconds", 0, "sink: seconds until the end, 0 = no such end")
	f.Float64Var(&o.timeout, "timeout", 120, "seconds after which the process gives up")
	f.IntVar(&o.write, "write", 65536, "sink: bytes a write")
	f.IntVar(&o.size, "size", 65536, "echo: bytes a message")
	f.IntVar(&o.rounds, "rounds", 1000, "echo: round trips measured")
	f.IntVar(&o.warmup, "warmup", 20, "echo: round trips before those")
	f.IntVar(&o.sessions, "sessions", 2000, "idle: sessions")
	f.IntVar(&o.sndwnd, "sndwnd", 1024, "packets")
	f.IntVar(&o.rcvwnd, "rcvwnd", 1024, "packets")
	f.IntVar(&o.mtu, "mtu", 1400, "bytes of UDP payload")
	f.IntVar(&o.nodelay, "nodelay", 1, "0 or 1")
	f.IntVar(&o.interval, "interval", 10, "ms")
	f.IntVar(&o.resend, "resend", 2, "duplicate ACKs")
	f.IntVar(&o.nc, "nc", 1, "1 = no congestion window")
	f.IntVar(&o.sockbuf, "sockbuf", 4<<20, "bytes, each way")
	f.StringVar(&o.fec, "fec", "", "DATA,PARITY packets of a group; empty = no FEC")
	f.StringVar(&o.crypt, "crypt", "null", "kcptun's name of a cipher; null = none")
	f.StringVar(&o.key, "key", "", "passphrase")
	f.StringVar(&o.framing, "framing", "raw", "raw or smux")
	f.IntVar(&o.smuxVersion, "smux-version", 2, "1 or 2")
	f.BoolVar(&o.stream, "stream", true, "stream mode")
	f.BoolVar(&o.writeDelay, "write-delay", false, "a write waits for the next interval")
	f.BoolVar(&o.ackNodelay, "ack-nodelay", false, "every ACK leaves at once")
	f.Parse(args) // ExitOnError: it does not return an error
	if f.NArg() > 0 {
		fail("unexpected argument %q", f.Arg(0))
	}
	if o.fec != "" {
		if n, err := fmt.Sscanf(o.fec, "%d,%d", &o.fecData, &o.fecParity); n != 2 || err != nil {
			fail("--fec %q: DATA,PARITY is wanted", o.fec)
		}
	}
	o.prepare()
	if o.mode != "sink" && o.mode != "echo" {
		fail("--mode %q: sink or echo is allowed", o.mode)
	}
	return o
}

func main() {
	commands := map[string]func(*options){
		"server": runServer, "client": runClient, "idle-server": runIdleServer, "idle-client": runIdleClient, "null": runNull,
		"crowd-server": runCrowdServer, "crowd-client": runCrowdClient,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fail("usage: kcpgo_peer server|client|idle-server|idle-client|crowd-server|crowd-client|null [--flag=value ...]")
	}
	o := parse(os.Args[2:])
	time.AfterFunc(time.Duration(o.timeout*float64(time.Second)), func() { fail("gave up after %g s", o.timeout) })
	commands[os.Args[1]](o)
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "kcpgo_peer: "+format+"\n", args...)
	os.Exit(3)
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func report(result map[string]any) {
	line, err := json.Marshal(result)
	check(err)
	fmt.Println(string(line))
}

// told is closed when the parent writes a line, or dies.
func told() <-chan struct{} {
	end := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		close(end)
	}()
	return end
}

// cpuSeconds is what this process has used so far, user and system, all threads.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func (o *options) applyTo(s *kcp.UDPSession) {
	s.SetStreamMode(o.stream)
	s.SetWriteDelay(o.writeDelay)
	s.SetACKNoDelay(o.ackNodelay)
	s.SetNoDelay(o.nodelay, o.interval, o.resend, o.nc)
	s.SetWindowSize(o.sndwnd, o.rcvwnd)
	if !s.SetMtu(o.mtu) {
		fail("kcp-go refuses mtu %d", o.mtu)
	}
}

// openListener prints the port that the parent waits for.
func openListener(o *options) *kcp.Listener {
	l, err := kcp.ListenWithOptions(o.listen, o.block, o.fecData, o.fecParity)
	check(err)
	check(l.SetReadBuffer(o.sockbuf))
	check(l.SetWriteBuffer(o.sockbuf))
	fmt.Println("port", l.Addr().(*net.UDPAddr).Port)
	return l
}

func dial(o *options) *kcp.UDPSession {
	s, err := kcp.DialWithOptions(o.addr, o.block, o.fecData, o.fecParity)
	check(err)
	check(s.SetReadBuffer(o.sockbuf))
	check(s.SetWriteBuffer(o.sockbuf))
	o.applyTo(s)
	return s
}
