// Package tap writes the Test Anything Protocol: the part of github.com/mndrix/tap-go that the validation programs call,
// which Debian does not package.
package tap

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// T is one program's report.
type T struct {
	// Writer takes the report; standard output if nil.
	Writer io.Writer

	counted *int
	todo    bool
}

// New starts a report on standard output.
func New() *T {
	return &T{counted: new(int)}
}

func (t *T) printf(format string, values ...interface{}) {
	writer := t.Writer
	if writer == nil {
		writer = os.Stdout
	}
	fmt.Fprintf(writer, format, values...)
}

// Header announces the number of tests; 0 leaves that to AutoPlan.
func (t *T) Header(number int) {
	t.printf("TAP version 13\n")
	if number > 0 {
		t.printf("1..%d\n", number)
	}
}

// AutoPlan says how many tests there were.
func (t *T) AutoPlan() {
	t.printf("1..%d\n", *t.counted)
}

// Ok reports one test.
func (t *T) Ok(passed bool, description string) {
	*t.counted++
	word := "ok"
	if !passed {
		word = "not ok"
	}
	dash := "-"
	if t.todo {
		dash = "# TODO"
	}
	t.printf("%s %d %s %s\n", word, *t.counted, dash, description)
}

// Todo is the same report; what fails in it is known not to be done yet.
func (t *T) Todo() *T {
	return &T{Writer: t.Writer, counted: t.counted, todo: true}
}

// Pass reports a test that passed.
func (t *T) Pass(description string) {
	t.Ok(true, description)
}

// Fail reports a test that failed.
func (t *T) Fail(description string) {
	t.Ok(false, description)
}

// Skip reports tests that were not run.
func (t *T) Skip(number int, why string) {
	for ; number > 0; number-- {
		*t.counted++
		t.printf("ok %d # SKIP %s\n", *t.counted, why)
	}
}

// Diagnostic writes a comment.
func (t *T) Diagnostic(text string) {
	t.printf("# %s\n", strings.ReplaceAll(text, "\n", "\n# "))
}

// Diagnosticf writes a comment.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML attaches a value to the test before; JSON is YAML.
func (t *T) YAML(value interface{}) error {
	text, err := json.MarshalIndent(value, "  ", "  ")
	if err != nil {
		return err
	}
	t.printf("  ---\n  %s\n  ...\n", text)
	return nil
}
