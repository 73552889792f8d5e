// Processes and signals as Go programs use them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	signals := make(chan os.Signal, 100)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGTERM)
	for i := 0; i < 1000; i++ {
		syscall.Kill(os.Getpid(), syscall.SIGUSR1)
		if got := <-signals; got != syscall.SIGUSR1 {
			fmt.Println("unexpected", got)
		}
	}
	fmt.Println("a thousand signals")
	signal.Ignore(syscall.SIGTERM)
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	out, err := exec.Command("sh", "-c", "echo out; echo err >&2; exit 3").CombinedOutput()
	fmt.Printf("%q %v\n", out, err)
	_, err = exec.Command("/no/such/program").Output()
	fmt.Println(err, errors.Is(err, os.ErrNotExist))
	var group sync.WaitGroup
	var lock sync.Mutex
	good := 0
	for i := 0; i < 100; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			out, err := exec.Command("echo", fmt.Sprint(i)).Output()
			lock.Lock()
			defer lock.Unlock()
			if err == nil && strings.TrimSpace(string(out)) == fmt.Sprint(i) {
				good++
			} else {
				fmt.Println(i, out, err)
			}
		}(i)
	}
	group.Wait()
	fmt.Println(good, "children at once")
	limit, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	fmt.Println(exec.CommandContext(limit, "sleep", "100").Run())
	cat := exec.Command("cat")
	in, _ := cat.StdinPipe()
	from, _ := cat.StdoutPipe()
	cat.Start()
	go func() {
		for i := 0; i < 100000; i++ {
			fmt.Fprintln(in, "line", i)
		}
		in.Close()
	}()
	bytes, _ := io.ReadAll(from)
	fmt.Println(len(bytes), cat.Wait())
	session := exec.Command("sleep", "100")
	session.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	session.Start()
	syscall.Kill(-session.Process.Pid, syscall.SIGINT)
	fmt.Println(session.Wait())
	start := time.Now()
	ticker, ticks := time.NewTicker(2*time.Millisecond), 0
	for range ticker.C {
		if ticks++; ticks == 50 {
			break
		}
	}
	fmt.Println("ticks", time.Since(start) >= 90*time.Millisecond)
	func() {
		defer func() { fmt.Println(recover()) }()
		var pointer *int
		*pointer = 1
	}()
	func() {
		defer func() { fmt.Println(recover()) }()
		zero := 0
		fmt.Println(1 / zero)
	}()
}
