-- Every request either leaves a secret in an app or searches an app's memory for one.
-- Arguments: the hosts.
local threads = {}

function setup(thread)
  thread:set("id", #threads)
  table.insert(threads, thread)
end

searched, kept, leaked, failed = 0, 0, 0, 0
local hosts, turn = {}, 0

function init(arguments)
  hosts = arguments
  math.randomseed(os.time() + id * 1009)
end

function request()
  turn = turn + 1
  local path = "/leak"
  if turn % 2 == 1 then
    path = string.format("/leak?set=TOPSECRET%08d", math.random(0, 99999999))
  end
  wrk.headers["Host"] = hosts[math.random(1, #hosts)] .. ".localhost"
  return wrk.format("GET", path)
end

function response(status, headers, body)
  if status ~= 200 then
    failed = failed + 1
  elseif body == "kept\n" then
    kept = kept + 1
  elseif body:sub(1, 8) == "global: " then
    searched = searched + 1
    if body:find("TOPSECRET", 1, true) then
      leaked = leaked + 1
    end
  else
    failed = failed + 1
  end
end

function done(summary, latency, requests)
  local totals = { searched = 0, kept = 0, leaked = 0, failed = 0 }
  for _, thread in ipairs(threads) do
    for name in pairs(totals) do
      totals[name] = totals[name] + thread:get(name)
    end
  end
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format("leak-totals searched=%d kept=%d leaked=%d failed=%d\n",
    totals.searched, totals.kept, totals.leaked, totals.failed + broken))
end
