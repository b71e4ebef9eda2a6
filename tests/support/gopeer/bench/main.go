// SPDX-License-Identifier: MIT

// Package bench is the kcp-go end of the benchmarks. bench/peers/kcpsock_peer.py takes the same command line and prints
// the same lines, so that bench/compare.py and bench/idle.py drive both alike:
//
//	server --mode sink|echo --bytes N    prints "port P", then its result when N bytes have arrived
//	client --mode sink|echo --addr A     sends; prints its result when told to end
//	idle-server, idle-client --sessions N   "accepted N", "connected N", then hold still
//	crowd-server, crowd-client --sessions N --size B   "connected N", then each session is echoed B bytes once a second
//	tunnel-server --target T, tunnel-client --addr A   "port P", then TCP connections to P come out at T
//	null --mode sink|echo                the same loops over a connection that does nothing: what the harness costs
//
// Results are one JSON object a line. A line, or the end, of stdin is the order to end; --timeout ends it anyway.
package bench

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"syscall"

	kcp "github.com/xtaci/kcp-go/v5"

	"kcpsock/tests/support/gopeer/fatal"
	"kcpsock/tests/support/gopeer/sessions"
)

type options struct {
	mode, listen, addr, fec, crypt, key, framing string
	target                                       string
	bytes                                        int64
	seconds, timeout                             float64
	write, size, rounds, warmup, sessions        int
	smuxVersion                                  int
	headers                                      int // bytes of crypt and FEC in a packet
	port                                         sessions.Port
	session                                      sessions.Settings
}

func parse(args []string) *options {
	o := &options{}
	f := flag.NewFlagSet("gopeer bench", flag.ExitOnError)
	f.StringVar(&o.mode, "mode", "sink", "sink or echo")
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "address a server binds")
	f.StringVar(&o.addr, "addr", "", "address a client connects to")
	f.StringVar(&o.target, "target", "", "tunnel-server: TCP address that what comes in goes to")
	f.Int64Var(&o.bytes, "bytes", 0, "bytes until the end, 0 = no such end")
	f.Float64Var(&o.seconds, "seconds", 0, "sink: seconds until the end, 0 = no such end")
	f.Float64Var(&o.timeout, "timeout", 120, "seconds after which the process gives up")
	f.IntVar(&o.write, "write", 65536, "sink: bytes a write")
	f.IntVar(&o.size, "size", 65536, "echo: bytes a message")
	f.IntVar(&o.rounds, "rounds", 1000, "echo: round trips measured")
	f.IntVar(&o.warmup, "warmup", 20, "echo: round trips before those")
	f.IntVar(&o.sessions, "sessions", 2000, "idle: sessions")
	f.IntVar(&o.session.Sndwnd, "sndwnd", 1024, "packets")
	f.IntVar(&o.session.Rcvwnd, "rcvwnd", 1024, "packets")
	f.IntVar(&o.session.MTU, "mtu", 1400, "bytes of UDP payload")
	f.IntVar(&o.session.Nodelay, "nodelay", 1, "0 or 1")
	f.IntVar(&o.session.Interval, "interval", 10, "ms")
	f.IntVar(&o.session.Resend, "resend", 2, "duplicate ACKs")
	f.IntVar(&o.session.NC, "nc", 1, "1 = no congestion window")
	f.IntVar(&o.port.SocketBufferedBytes, "sockbuf", 4<<20, "bytes, each way")
	f.StringVar(&o.fec, "fec", "", "DATA,PARITY packets of a group; empty = no FEC")
	f.StringVar(&o.crypt, "crypt", "null", "kcptun's name of a cipher; null = none")
	f.StringVar(&o.key, "key", "", "passphrase")
	f.StringVar(&o.framing, "framing", "raw", "raw or smux")
	f.IntVar(&o.smuxVersion, "smux-version", 2, "1 or 2")
	f.BoolVar(&o.session.Stream, "stream", true, "stream mode")
	f.BoolVar(&o.session.WriteDelay, "write-delay", false, "a write waits for the next interval")
	f.BoolVar(&o.session.ACKNodelay, "ack-nodelay", false, "every ACK leaves at once")
	f.Parse(args) // ExitOnError: it does not return an error
	if f.NArg() > 0 {
		fatal.Exit("unexpected argument %q", f.Arg(0))
	}
	if o.fec != "" {
		if n, err := fmt.Sscanf(o.fec, "%d,%d", &o.port.FECData, &o.port.FECParity); n != 2 || err != nil {
			fatal.Exit("--fec %q: DATA,PARITY is wanted", o.fec)
		}
	}
	o.prepare()
	if o.mode != "sink" && o.mode != "echo" {
		fatal.Exit("--mode %q: sink or echo is allowed", o.mode)
	}
	return o
}

// Run does one command.
func Run(args []string) {
	commands := map[string]func(*options){
		"server": runServer, "client": runClient, "idle-server": runIdleServer, "idle-client": runIdleClient, "null": runNull,
		"crowd-server": runCrowdServer, "crowd-client": runCrowdClient,
		"tunnel-server": runTunnelServer, "tunnel-client": runTunnelClient,
	}
	if len(args) == 0 || commands[args[0]] == nil {
		fatal.Exit("usage: gopeer bench server|client|idle-server|idle-client|crowd-server|crowd-client|tunnel-server|tunnel-client|null [--flag=value ...]")
	}
	o := parse(args[1:])
	fatal.After(o.timeout)
	commands[args[0]](o)
}

func report(result map[string]any) {
	line, err := json.Marshal(result)
	fatal.If(err)
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
	fatal.If(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

// openListener prints the port that the parent waits for.
func openListener(o *options) *kcp.Listener {
	l, err := o.port.Listen(o.listen)
	fatal.If(err)
	fmt.Println("port", l.Addr().(*net.UDPAddr).Port)
	return l
}

func dial(o *options) *kcp.UDPSession {
	s, err := o.port.Dial(o.addr)
	fatal.If(err)
	fatal.If(o.session.Apply(s))
	return s
}
