--- What a response of an LLM says that it used, read while it passes to the client.
--
-- A collector takes the response piece by piece and ends with JSON text that the daemon reads as a
-- provider's answer. A JSON response is kept whole, up to a limit. Of an event stream only events
-- with usage are kept, folded into one: Anthropic tells the prompt in its first event and the
-- completion, growing, in later ones; the last word of everybody else is final.

local cjson = require "cjson.safe"

local concat = table.concat
local find = string.find
local gsub = string.gsub
local lower = string.lower
local match = string.match
local max = math.max
local sub = string.sub
local type = type

local WITH_USAGE = '"usage%a*"%s*:%s*{'

local function is_table(value)
  return type(value) == "table"
end

local function has_usage(document)
  if not is_table(document) then
    return false
  end
  if is_table(document.usage) or is_table(document.usageMetadata) then
    return true
  end
  local last = document[#document]  -- a Gemini stream may be an array
  return is_table(last) and is_table(last.usageMetadata)
end

local function whole(limit)
  local parts, size = {}, 0
  local collector = {}

  function collector.feed(chunk)
    size = size + #chunk
    if size > limit then
      parts = {}
    else
      parts[#parts + 1] = chunk
    end
  end

  function collector.finish()
    if size > limit then
      return nil, "the response is longer than max_response_bytes"
    end
    local text = concat(parts)
    if not has_usage(cjson.decode(text)) then
      return nil, "the response says nothing of its usage"
    end
    return text
  end

  return collector
end

local function larger(old, new)
  for name, value in pairs(new) do
    if type(value) == "number" then
      old[name] = max(value, type(old[name]) == "number" and old[name] or 0)
    elseif old[name] == nil then
      old[name] = value
    end
  end
  return old
end

-- Fold one event into what was found so far.
local function fold(found, event)
  if is_table(event.usageMetadata) then
    return { usageMetadata = event.usageMetadata }
  end
  if is_table(event.response) and is_table(event.response.usage) then
    return { usage = event.response.usage }
  end
  if event.type == "message_start" and is_table(event.message)
    and is_table(event.message.usage) then
    return { type = "message", usage = event.message.usage }
  end
  if not is_table(event.usage) then
    return found
  end
  if event.type == "message_delta" then
    return { type = "message", usage = larger(found and found.usage or {}, event.usage) }
  end
  return { usage = event.usage }
end

local function events(limit)
  local rest, found = "", nil
  local collector = {}

  local function line(text)
    local data = match(text, "^data:(.*)$")
    if data and find(data, WITH_USAGE) then
      local event = cjson.decode(data)
      if is_table(event) then
        found = fold(found, event)
      end
    end
  end

  function collector.feed(chunk)
    local from = 1
    local stop = find(chunk, "\n", 1, true)
    while stop do
      line(gsub(rest .. sub(chunk, from, stop - 1), "\r$", ""))
      rest = ""
      from = stop + 1
      stop = find(chunk, "\n", from, true)
    end
    rest = rest .. sub(chunk, from)
    if #rest > limit then
      rest = ""  -- its tail is no event any more
    end
  end

  function collector.finish()
    line(rest)
    if not found then
      return nil, "the stream says nothing of its usage"
    end
    return cjson.encode(found)
  end

  return collector
end

local _M = {}

--- Return a collector for a response, or nil and why it cannot be read.
-- @tparam string|nil content_type
-- @tparam string|nil content_encoding
-- @tparam number limit bytes to keep
-- @treturn table|nil `feed(chunk)`; `finish()` returns JSON text, or nil and why there is none
function _M.collector(content_type, content_encoding, limit)
  if content_encoding and lower(content_encoding) ~= "identity" then
    return nil, "the response is compressed: " .. content_encoding
  end
  local media = match(lower(content_type or ""), "^[^;%s]*")
  if media == "text/event-stream" then
    return events(limit)
  end
  if media == "application/json" or find(media, "%+json$") then
    return whole(limit)
  end
  return nil, "the response is neither JSON nor an event stream"
end

return _M
