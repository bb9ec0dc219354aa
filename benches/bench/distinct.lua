-- Calls one of the apps d0 to d<n - 1> at random for every request.
local requests = {}

function init(arguments)
  math.randomseed(os.time())
  local count = tonumber(arguments[1])
  for n = 0, count - 1 do
    wrk.headers["Host"] = "d" .. n .. ".localhost"
    requests[n] = wrk.format("GET", "/")
  end
  requests.count = count
end

function request()
  return requests[math.random(0, requests.count - 1)]
end
