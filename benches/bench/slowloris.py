"""Clients that never come to an end: half of them with a head, half with a body, a byte a
second each. One that is cut off comes again. `slowloris.py PORT CONNECTIONS` goes on until its
standard input ends, and prints how many connections it made and how many were cut."""

import asyncio
import json
import sys

HEAD = b"GET / HTTP/1.1\r\nHost: plain.localhost\r\nX: "
BODY = b"POST / HTTP/1.1\r\nHost: sink.localhost\r\nContent-Length: 1000000\r\n\r\n"
made = cut = 0


async def drip(port, start, number):
    global made, cut
    # Spread over the first second, and so over every one.
    await asyncio.sleep(number % 100 / 100)
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        made += 1
        try:
            writer.write(start)
            while not reader.at_eof():
                writer.write(b"a")
                await writer.drain()
                try:
                    await asyncio.wait_for(reader.read(4096), 1)
                except TimeoutError:
                    pass
        except ConnectionError:
            pass
        finally:
            writer.close()
        cut += 1


async def main():
    port, connections = int(sys.argv[1]), int(sys.argv[2])
    tasks = [asyncio.create_task(drip(port, BODY if number % 2 else HEAD, number))
             for number in range(connections)]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    print(json.dumps({"made": made, "cut": cut}))


asyncio.run(main())
