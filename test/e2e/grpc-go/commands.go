package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
)

// command carries out one line of stdin and returns what becomes JSON.
type command func(arguments json.RawMessage) (interface{}, error)

// obey reads lines as {"id": 1, "op": "call", "arguments": {…}} until stdin ends, and carries them out all at once. To each it
// answers when it is done, with {"id": 1, "result": …} or {"id": 1, "error": "…"} on a line of stdout.
func obey(commands map[string]command) error {
	lines := bufio.NewReader(os.Stdin)
	var writing sync.Mutex
	answers := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var asked struct {
			ID        int
			Op        string
			Arguments json.RawMessage
		}
		if err := json.Unmarshal(line, &asked); err != nil {
			return err
		}
		run := commands[asked.Op]
		if run == nil {
			return fmt.Errorf("no command %s", asked.Op)
		}
		go func() {
			answer := map[string]interface{}{"id": asked.ID}
			result, err := run(asked.Arguments)
			if err != nil {
				answer["error"] = err.Error()
			} else {
				answer["result"] = result
			}
			writing.Lock()
			defer writing.Unlock()
			answers.Encode(answer)
		}()
	}
}
