// SPDX-License-Identifier: MIT

// kcp-go and smux as the peer of kcpsock's tests and benchmarks. tests/support/go_peer.py builds it, and says how it is started:
//
//	gopeer calls                     does what lines of JSON on stdin tell it (calls/): for tests/interop
//	gopeer bench COMMAND [FLAGS]     an end of what is measured (bench/): for bench/compare.py, idle.py and grow.py
//	gopeer micro COMMAND [FLAGS]     packet crypt and FEC alone (micro/): for bench/micro.py
package main

import (
	"os"

	"kcpsock/tests/support/gopeer/bench"
	"kcpsock/tests/support/gopeer/calls"
	"kcpsock/tests/support/gopeer/fatal"
	"kcpsock/tests/support/gopeer/micro"
)

func main() {
	parts := map[string]func([]string){"calls": calls.Run, "bench": bench.Run, "micro": micro.Run}
	if len(os.Args) < 2 || parts[os.Args[1]] == nil {
		fatal.Exit("usage: gopeer calls | bench COMMAND [FLAGS] | micro COMMAND [FLAGS]")
	}
	parts[os.Args[1]](os.Args[2:])
}
