// Call capsule-run from Go: a request as JSON on stdin, a response as JSON on stdout.
//
//	go run examples/call_from_go.go
//
// capsule-run must be on PATH. No module is needed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os/exec"
	"time"
)

// Request has the fields that this program uses; docs/json-api.md has all of them.
type Request struct {
	Command   []string       `json:"command"`
	Stdin     string         `json:"stdin,omitempty"`
	TimeoutMs int            `json:"timeout_ms,omitempty"`
	Resources map[string]any `json:"resources,omitempty"`
}

// Response is what capsule-run answers. Error is nil for a success.
type Response struct {
	Status   string `json:"status"`
	ExitCode int    `json:"exit_code"`
	Stdout   string `json:"stdout"`
	Stderr   string `json:"stderr"`
	Error    *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	} `json:"error"`
}

// Run runs a request. The error is about capsule-run itself; what happened to the command is in the response.
func Run(ctx context.Context, request Request) (Response, error) {
	var response Response
	text, err := json.Marshal(request)
	if err != nil {
		return response, err
	}
	command := exec.CommandContext(ctx, "capsule-run", "--json")
	command.Stdin = bytes.NewReader(text)
	output, err := command.Output()
	// an exit code other than 0 comes with a response, too
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return response, err
	}
	return response, json.Unmarshal(output, &response)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	limits := map[string]any{"memory_bytes": 256 << 20}
	for _, request := range []Request{
		{Command: []string{"python3", "-c", "print(6 * 7)"}, TimeoutMs: 10_000, Resources: limits},
		{Command: []string{"sleep", "60"}, TimeoutMs: 300, Resources: limits},
	} {
		response, err := Run(ctx, request)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %q\n", response.Status, response.Stdout)
		if response.Error != nil {
			fmt.Println(response.Error.Code)
		}
	}
}
