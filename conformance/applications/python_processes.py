"""Processes as Python programs make them: subprocess, multiprocessing, concurrent.futures, asyncio."""
import asyncio
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys


def square(number):
    return number * number


def worker(queue, lock, value, number):
    for _ in range(100):
        with lock:
            value.value += 1
    queue.put(number)


def with_subprocess():
    print(subprocess.run(["sh", "-c", "cat; echo error >&2; exit 3"], input=b"in", capture_output=True))
    first = subprocess.Popen(["seq", "1000"], stdout=subprocess.PIPE)
    second = subprocess.Popen(["tail", "-1"], stdin=first.stdout, stdout=subprocess.PIPE)
    first.stdout.close()
    print(second.communicate()[0], first.wait())
    sleeper = subprocess.Popen(["sleep", "100"], start_new_session=True)
    try:
        sleeper.wait(0.05)
    except subprocess.TimeoutExpired:
        os.killpg(sleeper.pid, signal.SIGTERM)
    print(sleeper.wait())
    try:
        subprocess.run(["/no/such/program"])
    except FileNotFoundError as error:
        print(error)
    print(sum(child.wait() for child in [subprocess.Popen(["sh", "-c", f"exit {i}"]) for i in range(40)]))
    big = subprocess.run(["cat"], input=b"x" * 3_000_000, capture_output=True)
    print(len(big.stdout))


def with_multiprocessing(method):
    context = multiprocessing.get_context(method)
    with context.Pool(4) as pool:
        print(method, pool.map(square, range(20)), pool.apply_async(square, (9,)).get(30))
    queue, lock, value = context.Queue(), context.Lock(), context.Value("i", 0, lock=False)
    processes = [context.Process(target=worker, args=(queue, lock, value, i)) for i in range(8)]
    for process in processes:
        process.start()
    got = sorted(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    print(method, got, value.value, [process.exitcode for process in processes])


def with_futures():
    with concurrent.futures.ProcessPoolExecutor(3) as pool:
        print(list(pool.map(square, range(30), chunksize=4)))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        print(sum(pool.map(square, range(1000))))


async def with_asyncio():
    async def one(number):
        process = await asyncio.create_subprocess_exec("sh", "-c", f"read x; echo $x; exit {number}",
                                                       stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate(f"line {number}\n".encode())
        return out, process.returncode

    print(await asyncio.gather(*(one(number) for number in range(20))))
    process = await asyncio.create_subprocess_shell("sleep 100")
    process.kill()
    print(await process.wait())
    loop = asyncio.get_running_loop()
    seen = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, seen.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(seen.wait(), 10)
    print("signal seen", await loop.run_in_executor(None, square, 12))


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["subprocess", "fork", "spawn", "forkserver", "futures", "asyncio"]
    for name in wanted:
        print("==", name, flush=True)
        match name:
            case "subprocess":
                with_subprocess()
            case "futures":
                with_futures()
            case "asyncio":
                asyncio.run(with_asyncio())
            case method:
                with_multiprocessing(method)
        sys.stdout.flush()
