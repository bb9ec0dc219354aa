"""A WebSocket server that sends back what it gets: `echo.py PORT`. Prints a line when it
listens. Knows small frames only, which is all that is measured with it."""

import asyncio
import base64
import hashlib
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def serve(reader, writer):
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        key = next(line.split(b":", 1)[1].strip() for line in head.split(b"\r\n")
                   if line.lower().startswith(b"sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        while True:
            first, second = await reader.readexactly(2)
            mask = await reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
            text = await reader.readexactly(second & 0x7f)
            plain = bytes(byte ^ mask[index % 4] for index, byte in enumerate(text))
            writer.write(bytes([first, len(plain)]) + plain)
            if first & 0x0f == 8:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    print("listening", flush=True)
    await server.serve_forever()


asyncio.run(main())
