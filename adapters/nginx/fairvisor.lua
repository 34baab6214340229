-- Fairvisor in nginx with the Lua module: asks the daemon before a request goes on, waits when told
-- to, and says afterwards what a provider's answer used.
--
--    access_by_lua_block        { require("fairvisor").access({ daemon = "unix:/run/fv.sock" }) }
--    header_filter_by_lua_block { require("fairvisor").header_filter() }
--    body_filter_by_lua_block   { require("fairvisor").body_filter() }
--    log_by_lua_block           { require("fairvisor").log() }
--
-- Options of `access`:
--    daemon       "unix:/path", or the address with `port`
--    timeout      milliseconds to connect, to send, and to wait for the answer (500)
--    on_failure   "closed", "open" or "reads-open": what happens while the daemon does not answer
--    body         whether the daemon gets the request's body (true)

local cjson = require("cjson.safe")
local usage = require("fairvisor_usage")

local M = {}

local LONGEST_DELAY_MS = 30000
local IDLE_MS = 60000
local POOL_SIZE = 64
local SETTLE_ATTEMPTS = 3
local MAX_BODY = 65536
local MAX_KEPT = 1048576
local FIRST_ERROR = 400
local NOTHING_USED = '{"prompt_tokens":0,"completion_tokens":0}'
local READS = { GET = true, HEAD = true, OPTIONS = true }

-- Canonical names that do not go to the daemon: connection matters, and what a client must not say
-- of itself. A name with "_" is the same name to the daemon.
local DROPPED = {
   ["connection"] = true,
   ["content-length"] = true,
   ["expect"] = true,
   ["host"] = true,
   ["keep-alive"] = true,
   ["proxy-connection"] = true,
   ["te"] = true,
   ["trailer"] = true,
   ["transfer-encoding"] = true,
   ["upgrade"] = true,
   ["x-asn"] = true,
   ["x-asn-type"] = true,
   ["x-country-code"] = true,
   ["x-fairvisor-prefer"] = true,
   ["x-token-estimate"] = true,
   ["x-tor-exit"] = true,
}

-- Fields of a decision that the client gets.
local PASSED = {
   ["ratelimit"] = "RateLimit",
   ["ratelimit-limit"] = "RateLimit-Limit",
   ["ratelimit-policy"] = "RateLimit-Policy",
   ["ratelimit-remaining"] = "RateLimit-Remaining",
   ["ratelimit-reset"] = "RateLimit-Reset",
   ["retry-after"] = "Retry-After",
   ["www-authenticate"] = "WWW-Authenticate",
   ["x-fairvisor-loop-count"] = "X-Fairvisor-Loop-Count",
   ["x-fairvisor-reason"] = "X-Fairvisor-Reason",
   ["x-fairvisor-warning"] = "X-Fairvisor-Warning",
}

local function is_passed(canonical)
   return not DROPPED[canonical]
      and canonical:sub(1, 12) ~= "x-forwarded-"
      and canonical:sub(1, 11) ~= "x-original-"
end

local function add(lines, name, value)
   if type(value) == "table" then
      for _, each in ipairs(value) do
         add(lines, name, each)
      end
   elseif not tostring(value):find("[%c]") then
      lines[#lines + 1] = name .. ": " .. tostring(value)
   end
end

local function request_body()
   ngx.req.read_body()
   local body = ngx.req.get_body_data()
   if body then
      return body
   end
   local path = ngx.req.get_body_file()
   local file = path and io.open(path, "rb")
   if not file then
      return ""
   end
   body = file:read("*a")
   file:close()
   return body
end

local function question(options)
   local var = ngx.var
   local body = options.body ~= false and request_body() or ""
   local lines = {
      "POST /v1/decision HTTP/1.1",
      "Host: fairvisor",
      "X-Original-Method: " .. ngx.req.get_method(),
      "X-Original-URI: " .. var.request_uri,
      "X-Original-Host: " .. var.host,
      "X-Forwarded-For: " .. var.remote_addr,
      "X-Fairvisor-Prefer: delay-header",
      "Content-Length: " .. #body,
   }
   for name, value in pairs(ngx.req.get_headers(0, true)) do
      if is_passed((name:lower():gsub("_", "-"))) then
         add(lines, name, value)
      end
   end
   lines[#lines + 1] = "\r\n"
   return table.concat(lines, "\r\n") .. body
end

-- Read one answer; nil and what went wrong otherwise.
local function read_answer(sock)
   local head, err = sock:receiveuntil("\r\n\r\n")()
   if not head then
      return nil, err
   end
   local status = tonumber(head:match("^HTTP/1%.1 (%d%d%d)"))
   if not status then
      return nil, "no HTTP"
   end
   local fields = {}
   for name, value in head:gmatch("\r\n([^:\r\n]+):[ \t]*([^\r\n]*)") do
      fields[name:lower()] = value
   end
   local size = tonumber(fields["content-length"] or "0")
   if not size or size > MAX_BODY then
      return nil, "an answer of no or of too great length"
   end
   local body = ""
   if size > 0 then
      body, err = sock:receive(size)
      if not body then
         return nil, err
      end
   end
   return { status = status, fields = fields, body = body }
end

local function connect(sock, options)
   if options.port then
      return sock:connect(options.daemon, options.port, { pool_size = POOL_SIZE })
   end
   return sock:connect(options.daemon, { pool_size = POOL_SIZE })
end

-- Send a request and return the answer. Once: only a kept connection that the daemon has closed in
-- the meantime is opened anew.
local function exchange(options, request)
   local timeout = options.timeout or 500
   while true do
      local sock = ngx.socket.tcp()
      sock:settimeouts(timeout, timeout, timeout)
      local ok, err = connect(sock, options)
      if not ok then
         return nil, err
      end
      local kept = (sock:getreusedtimes() or 0) > 0
      local answer
      ok, err = sock:send(request)
      if ok then
         answer, err = read_answer(sock)
      end
      if answer then
         if (answer.fields["connection"] or ""):lower() == "close" then
            sock:close()
         else
            sock:setkeepalive(IDLE_MS, POOL_SIZE)
         end
         return answer
      end
      sock:close()
      if not kept or err == "timeout" then
         return nil, err
      end
   end
end

local function refuse(status, fields, body)
   ngx.status = status
   for name, value in pairs(fields) do
      local passed = PASSED[name]
      if passed then
         ngx.header[passed] = value
      end
   end
   ngx.header["Content-Type"] = "application/json"
   ngx.header["Content-Length"] = #body
   ngx.print(body)
   return ngx.exit(ngx.HTTP_OK)
end

local function undecided(options, why)
   local policy = options.on_failure or "closed"
   local open = policy == "open" or (policy == "reads-open" and READS[ngx.req.get_method()])
   ngx.log(ngx.ERR, "fairvisor: no decision: ", why, open and "; passed" or "; refused")
   if open then
      ngx.var.fairvisor_fields = "\n"
   else
      refuse(
         503,
         { ["retry-after"] = "1", ["x-fairvisor-reason"] = "service_unavailable" },
         '{"error":"service_unavailable"}'
      )
   end
end

local function allow(options, answer)
   local fields = answer.fields
   local lines = { "" }
   for name, passed in pairs(PASSED) do
      if fields[name] then
         lines[#lines + 1] = passed .. ": " .. fields[name]
      end
   end
   -- A variable outlives an internal redirect, which ngx.ctx does not.
   ngx.var.fairvisor_fields = table.concat(lines, "\n") .. "\n"
   local reservation = fields["x-fairvisor-reservation"]
   if reservation then
      ngx.ctx.fairvisor = { options = options, reservation = reservation }
      ngx.req.clear_header("Accept-Encoding") -- or the usage could not be read
   end
   local delay = tonumber(fields["x-fairvisor-delay-ms"])
   if delay and delay > 0 then
      ngx.sleep(math.min(delay, LONGEST_DELAY_MS) / 1000)
   end
end

-- Ask, and let the request pass, wait or end.
function M.access(options)
   if (ngx.var.fairvisor_fields or "") ~= "" then
      return -- an internal redirect (try_files, error_page) of a request that has been decided
   end
   local answer, err = exchange(options, question(options))
   if not answer then
      undecided(options, err)
   elseif answer.status == 200 then
      allow(options, answer)
   elseif answer.fields["x-fairvisor-reason"] then
      refuse(answer.status, answer.fields, answer.body)
   elseif answer.status >= 400 and answer.status < 500 and answer.status ~= 404 then
      -- What Fairvisor cannot read is refused always, or a broken header would be a way past it.
      refuse(400, {}, '{"error":"malformed_request"}')
   else
      undecided(options, "status " .. answer.status)
   end
end

-- Tell the client what is left, and begin to read the answer if its usage is wanted.
function M.header_filter()
   for name, value in (ngx.var.fairvisor_fields or ""):gmatch("\n([^:\n]+): ([^\n]*)") do
      ngx.header[name] = value
   end
   local decided = ngx.ctx.fairvisor
   if decided then
      local header = ngx.header
      decided.status = ngx.status
      decided.usage, decided.unread =
         usage.collector(header["Content-Type"], header["Content-Encoding"], MAX_KEPT)
   end
end

-- Watch the answer pass.
function M.body_filter()
   local decided = ngx.ctx.fairvisor
   if decided and decided.usage and ngx.arg[1] then
      decided.usage.feed(ngx.arg[1])
   end
end

local function settle(premature, options, body)
   local request = "POST /v1/settle HTTP/1.1\r\nHost: fairvisor\r\nContent-Type: application/json\r\n"
      .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
   for attempt = 1, SETTLE_ATTEMPTS do
      local answer, err = exchange(options, request)
      if answer and answer.status < 500 then
         if answer.status ~= 204 then
            ngx.log(ngx.ERR, "fairvisor: not settled: status ", answer.status, " ", answer.body)
         end
         return
      end
      ngx.log(ngx.ERR, "fairvisor: not settled: ", err or ("status " .. answer.status))
      if premature or attempt == SETTLE_ATTEMPTS then
         return
      end
      ngx.sleep(attempt)
   end
end

-- Return the body of the settlement, or nil and why nothing may be said: an answer without usage
-- stays charged as it was reserved, but an error that used nothing is given back.
local function settlement(decided)
   local text, why = nil, decided.unread
   if decided.usage then
      text, why = decided.usage.finish()
   end
   local said = '{"reservation":' .. cjson.encode(decided.reservation) .. ","
   if text then
      return said .. '"response_body":' .. text .. "}"
   end
   if decided.status >= FIRST_ERROR then
      return said .. '"usage":' .. NOTHING_USED .. "}"
   end
   return nil, why
end

-- Settle what the request had reserved, after the answer.
function M.log()
   local decided = ngx.ctx.fairvisor
   if not decided then
      return
   end
   if not decided.status then
      ngx.log(ngx.WARN, "fairvisor: a reservation stays charged: no answer was seen")
      return
   end
   local body, why = settlement(decided)
   if not body then
      ngx.log(ngx.WARN, "fairvisor: a reservation stays charged: ", why)
      return
   end
   local ok, err = ngx.timer.at(0, settle, decided.options, body)
   if not ok then
      ngx.log(ngx.ERR, "fairvisor: not settled: ", err)
   end
end

return M
