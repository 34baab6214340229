-- POST one body again and again; figures as request.lua prints them.
-- Arguments: path, file with the body, then "Name: value" header lines.

function init(args)
   local file = assert(io.open(args[2], "rb"))
   local headers = { ["Content-Type"] = "application/json" }
   for i = 3, #args do
      local name, value = args[i]:match("^([^:]+): (.*)$")
      headers[name] = value
   end
   ready = wrk.format("POST", args[1], headers, file:read("*a"))
   file:close()
end

function request() return ready end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\nBENCH {"requests":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d,"refused":%d,"failed":%d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
