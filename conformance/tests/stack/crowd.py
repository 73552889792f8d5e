"""Thousands of connections at once.

crowd.py serve              echoes lines
crowd.py ask IP COUNT       makes so many connections there, keeps them, and asks something over each
"""
import asyncio
import resource
import sys

PORT = 7200
AT_ONCE = 200


async def serve():
    async def one(reader, writer):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(one, "", PORT, backlog=4 * AT_ONCE)
    print("ready", flush=True)
    await server.serve_forever()


async def ask(host, count):
    made = []
    for _ in range(0, count, AT_ONCE):
        made += await asyncio.gather(*[asyncio.open_connection(host, PORT) for _ in range(AT_ONCE)])
    for at, (_, writer) in enumerate(made):
        writer.write(b"number %d\n" % at)
    print(sum([await reader.readline() == b"number %d\n" % at for at, (reader, _) in enumerate(made)]))
    for _, writer in made:
        writer.close()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (20_000, 20_000))
    asyncio.run(serve() if sys.argv[1] == "serve" else ask(sys.argv[2], int(sys.argv[3])))
