// SPDX-License-Identifier: MIT

// Package fatal ends the process when it can't go on: whoever started it reads why on stderr.
package fatal

import (
	"fmt"
	"os"
	"time"
)

func Exit(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "gopeer: "+format+"\n", args...)
	os.Exit(3)
}

// If ends the process when there is an error.
func If(err error) {
	if err != nil {
		Exit("%v", err)
	}
}

// After ends the process when so many seconds are over.
func After(seconds float64) {
	time.AfterFunc(time.Duration(seconds*float64(time.Second)), func() { Exit("gave up after %g s", seconds) })
}
