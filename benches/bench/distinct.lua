-- Calls one of the apps PREFIX0 to PREFIX<n - 1> at random for every request.
-- Arguments: the prefix and n.
local requests = {}

function init(arguments)
  math.randomseed(os.time())
  local count = tonumber(arguments[2])
  for n = 0, count - 1 do
    wrk.headers["Host"] = arguments[1] .. n .. ".localhost"
    requests[n] = wrk.format("GET", "/")
  end
  requests.count = count
end

function request()
  return requests[math.random(0, requests.count - 1)]
end
