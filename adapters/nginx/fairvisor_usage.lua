-- What a provider's answer says it used: fed piece by piece, read when it is complete.
--
-- Nothing but Lua and cjson, so that it runs in any gateway and in tests without one. Whole JSON
-- answers are kept up to the size that the daemon would read; of an event stream only two events are
-- kept, the first and the last that hold usage: Anthropic reports the prompt in the one and the
-- completion in the other, OpenAI and Gemini report everything in the last.

local cjson = require("cjson.safe")

local MAX_KEPT = 1048576
local FIRST_ERROR = 400
local NOTHING_USED = { prompt_tokens = 0, completion_tokens = 0 }

local Usage = {}
Usage.__index = Usage

local function has_usage(text)
   return text:find('"usage"%s*:%s*{') ~= nil or text:find('"usageMetadata"', 1, true) ~= nil
end

-- Return a reader for an answer with this status and these header values (nil if it has none).
function Usage.new(status, content_type, content_encoding)
   local encoding = (content_encoding or ""):lower()
   local stream = (content_type or ""):lower():find("text/event-stream", 1, true) ~= nil
   return setmetatable({
      status = status,
      stream = stream,
      readable = encoding == "" or encoding == "identity",
      pieces = {},
      size = 0,
      first = nil,
      last = nil,
   }, Usage)
end

function Usage:keep(piece)
   self.size = self.size + #piece
   if self.size > MAX_KEPT then
      self.pieces = {}
      self.overflown = true
   elseif not self.overflown then
      self.pieces[#self.pieces + 1] = piece
   end
end

-- Take the line that is complete with `tail`.
function Usage:line(tail)
   self:keep(tail)
   local line = table.concat(self.pieces)
   self.pieces, self.size, self.overflown = {}, 0, false
   local data = line:match("^data:%s*(.*)$")
   if data and has_usage(data) then
      self.first = self.first or data
      self.last = data
   end
end

-- Take the next piece of the answer's body.
function Usage:feed(piece)
   if not self.readable or not piece or piece == "" then
      return
   end
   if not self.stream then
      self:keep(piece)
      return
   end
   local from = 1
   while true do
      local at = piece:find("[\r\n]", from)
      if not at then
         break
      end
      self:line(piece:sub(from, at - 1))
      from = at + 1
   end
   self:keep(piece:sub(from))
end

local function is_object(value)
   return type(value) == "table"
end

-- Add what one JSON document says to `found`.
local function collect(found, text)
   local document = cjson.decode(text)
   if not is_object(document) then
      return
   end
   local inner = is_object(document.message) and document.message
      or is_object(document.response) and document.response
      or document
   if inner.type == "message" then
      found.type = "message"
   end
   -- A Gemini stream without events is a list; its last element has the figures.
   local last = #document > 0 and document[#document] or document
   if is_object(last) and is_object(last.usageMetadata) then
      found.usageMetadata = last.usageMetadata
   end
   for _, each in ipairs({ inner, document }) do
      if is_object(each.usage) then
         found.usage = found.usage or {}
         for name, value in pairs(each.usage) do
            found.usage[name] = value
         end
      end
   end
end

-- Return the body of the settlement, nil if nothing may be said: an answer without usage stays
-- charged as it was reserved, but an error that used nothing is given back.
function Usage:settlement(reservation)
   local found = {}
   if self.stream then
      self:line("")
      for _, text in ipairs({ self.first, self.last }) do
         collect(found, text)
      end
   elseif not self.overflown then
      collect(found, table.concat(self.pieces))
   end
   if found.usage or found.usageMetadata then
      return cjson.encode({ reservation = reservation, response_body = found })
   end
   if self.status >= FIRST_ERROR then
      return cjson.encode({ reservation = reservation, usage = NOTHING_USED })
   end
   return nil
end

return Usage
