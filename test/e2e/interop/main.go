// The peer of the interop tests on grpc-go: `peer server SOCKET` serves until its stdin ends, `peer client SOCKET` makes the
// calls described in JSON on stdin (any-client.ts: AnyCalls) and prints what it saw of them as one line of JSON.
package main

import (
	"encoding/base64"
	"fmt"
	"log"
	"os"
	"strings"

	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
)

const maxMessageBytes = 1 << 30

// rawCodec takes a *[]byte for the message.
type rawCodec struct{}

func (rawCodec) Marshal(v interface{}) ([]byte, error) { return *v.(*[]byte), nil }

func (rawCodec) Unmarshal(data []byte, v interface{}) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// Name is what a client without a codec of its own says, so that `content-type` is application/grpc+proto.
func (rawCodec) Name() string   { return "proto" }
func (rawCodec) String() string { return "proto" }

// printable has the values of -bin names in base64.
func printable(md metadata.MD) map[string][]string {
	values := map[string][]string{}
	for name, found := range md {
		for _, value := range found {
			if strings.HasSuffix(name, "-bin") {
				value = base64.StdEncoding.EncodeToString([]byte(value))
			}
			values[name] = append(values[name], value)
		}
	}
	return values
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: peer server|client SOCKET")
	}
	run := map[string]func(string) error{"server": serve, "client": makeCalls}[os.Args[1]]
	if run == nil {
		log.Fatal(fmt.Sprintf("no role %s", os.Args[1]))
	}
	if err := run(os.Args[2]); err != nil {
		log.Fatal(err)
	}
}
