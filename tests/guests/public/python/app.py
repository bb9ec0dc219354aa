"""A function in Python, on the raw bindings of wasi:http 0.2."""

import json

from componentize_py_types import Ok
from wit_world.exports import IncomingHandler as IncomingHandlerExport
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)


class IncomingHandler(IncomingHandlerExport):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        path = (request.path_with_query() or "/").split("?")[0]
        response = OutgoingResponse(
            Fields.from_list([("content-type", b"application/json")])
        )
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            if path == "/stream":
                for n in range(1, 6):
                    stream.blocking_write_and_flush(json.dumps({"part": n}).encode() + b"\n")
            else:
                answer = {"language": "python", "sum": sum(range(101)), "path": path}
                stream.blocking_write_and_flush(json.dumps(answer).encode())
        OutgoingBody.finish(body, None)
