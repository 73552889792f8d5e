// web serve ADDRESS PORT: a server of one page, whatever is asked for. web fetch URL: the length of a page.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	var err error
	if os.Args[1] == "serve" {
		page := bytes.Repeat([]byte("x"), 5000000)
		http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { w.Write(page) })
		err = http.ListenAndServe(os.Args[2]+":"+os.Args[3], nil)
	} else {
		client := http.Client{Transport: &http.Transport{}}
		var answer *http.Response
		if answer, err = client.Get(os.Args[2]); err == nil {
			var length int64
			length, err = io.Copy(io.Discard, answer.Body)
			fmt.Println(length)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
