-- The requests of one wrk run, and its figures as one line of JSON.
-- Arguments: keys, first, order, path, then "Name: value" header lines. "{key}" in a value becomes a
-- number from 1 to keys, in the given order (random or sequential, from `first` on); "{serial}"
-- becomes a number that no other request of the run has, counted from `first`.

local keys, serial, sequential, template
local fills = {}

local function key()
   if sequential then return serial % keys + 1 end
   return math.random(keys)
end

function init(args)
   keys, serial, sequential = tonumber(args[1]), tonumber(args[2]), args[3] == "sequential"
   math.randomseed(serial)
   local headers = {}
   for i = 5, #args do
      local name, value = args[i]:match("^([^:]+): (.*)$")
      headers[name] = value
   end
   template = wrk.format("GET", args[4], headers):gsub("%%", "%%%%")
   template = template:gsub("{(%l+)}", function(fill)
      fills[#fills + 1] = fill
      return "%d"
   end)
   if #fills == 0 then template = template:format() end
end

function request()
   if #fills == 0 then return template end
   serial = serial + 1
   local first = fills[1] == "key" and key() or serial
   if #fills == 1 then return template:format(first) end
   return template:format(first, fills[2] == "key" and key() or serial)
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\nBENCH {"requests":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d,"refused":%d,"failed":%d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
