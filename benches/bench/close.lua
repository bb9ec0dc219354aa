-- A connection for every request.

function init(arguments)
  wrk.headers["Connection"] = "close"
end
