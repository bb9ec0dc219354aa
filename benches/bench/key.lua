-- Sends an API key with every request. Argument: the key.

function init(arguments)
  wrk.headers["X-Api-Key"] = arguments[1]
end
