// SPDX-License-Identifier: MIT

// Package calls is kcp-go and smux, told what to do by lines of JSON on stdin.
//
//	{"id": 1, "call": "dial", "args": {"addr": "127.0.0.1:4000", "crypt": "aes"}}
//	{"id": 1, "result": 7}   or   {"id": 1, "error": "..."}
//
// Calls run at the same time, each in a goroutine; an answer comes when its call is done. What was made (a listener, a
// connection, a smux session) is named by a number. The end of stdin ends the process, and everything with it.
package calls

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	"kcpsock/tests/support/gopeer/fatal"
)

type request struct {
	ID   int             `json:"id"`
	Call string          `json:"call"`
	Args json.RawMessage `json:"args"`
}

type answer struct {
	ID     int    `json:"id"`
	Result any    `json:"result"`
	Error  string `json:"error,omitempty"`
}

type handler func(json.RawMessage) (any, error)

// command makes a handler of a function that takes a struct of arguments; an argument it does not know is an error.
func command[A any](f func(A) (any, error)) handler {
	return func(raw json.RawMessage) (any, error) {
		var args A
		if err := strict(raw, &args); err != nil {
			return nil, err
		}
		return f(args)
	}
}

var commands = map[string]handler{
	"listen": command(listen), "accept": command(accept), "dial": command(dial),
	"session": command(session), "open": command(open), "accept_stream": command(acceptStream),
	"session_end": command(sessionEnd), "streams": command(streams),
	"send": command(send), "receive": command(receive), "echo": command(echo), "exchange": command(exchange),
	"sent": command(sent), "close_write": command(closeWrite), "close": command(closeOne),
	"send_messages": command(sendMessages), "receive_messages": command(receiveMessages),
	"echo_messages": command(echoMessages),
	"oob_send":      command(oobSend), "oob_wait": command(oobWait),
	"snmp": command(snmp), "close_all": command(closeAll), "versions": command(versions),
}

// Run serves calls until stdin ends.
func Run(args []string) {
	if len(args) > 0 {
		fatal.Exit("unexpected argument %q", args[0])
	}
	var output sync.Mutex
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			fatal.Exit("not a request: %s: %v", line, err)
		}
		go func() {
			a := answer{ID: r.ID}
			if run := commands[r.Call]; run == nil {
				a.Error = "there is no call " + r.Call
			} else if result, err := run(r.Args); err != nil {
				a.Error = fmt.Sprintf("%s: %v", r.Call, err)
			} else {
				a.Result = result
			}
			text, err := json.Marshal(a)
			fatal.If(err)
			output.Lock()
			defer output.Unlock()
			os.Stdout.Write(append(text, '\n'))
		}()
	}
}

// ---- what was made, by number ----

var made = struct {
	sync.Mutex
	last int
	all  map[int]io.Closer
}{all: map[int]io.Closer{}}

func keep(what io.Closer) int {
	made.Lock()
	defer made.Unlock()
	made.last++
	made.all[made.last] = what
	return made.last
}

func find[T any](id int) (T, error) {
	made.Lock()
	defer made.Unlock()
	what, ok := made.all[id].(T)
	if !ok {
		return what, fmt.Errorf("number %d is a %T, not a %T", id, made.all[id], what)
	}
	return what, nil
}

type nothing struct{}

// closeAll closes the newest first: streams before sessions, connections before their listener.
func closeAll(nothing) (any, error) {
	made.Lock()
	defer made.Unlock()
	for id := made.last; id > 0 && len(made.all) > 0; id-- {
		if what, ok := made.all[id]; ok {
			what.Close() // it may be closed already
			delete(made.all, id)
		}
	}
	return nil, nil
}
