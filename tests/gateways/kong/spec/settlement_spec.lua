local cjson = require "cjson.safe"
local doubles = require "doubles"
local handler = require "kong.plugins.fairvisor.handler"

local answer, conf = doubles.answer, doubles.conf

local GRANTED = answer(200, { ["X-Fairvisor-Reservation"] = "res-1" })
local SETTLED = answer(204)
local JSON = '{"model":"m","usage":{"prompt_tokens":6,"completion_tokens":94}}'

-- Run one request through all phases. Returns what happened and the settlement's body.
local function serve(script, response)
  local state = doubles.install({}, { script })
  local settings = conf(response.conf)
  handler:access(settings)
  state.response = { ["Content-Type"] = response.type or "application/json",
                     ["Content-Encoding"] = response.encoding }
  state.status = response.status or 200
  state.source = response.source or "service"
  state.service_status = response.status or 200
  if not response.unseen then
    handler:header_filter(settings)
    for _, chunk in ipairs(response.chunks or {}) do
      ngx.arg[1], ngx.arg[2] = chunk, false
      handler:body_filter()
    end
    ngx.arg[1], ngx.arg[2] = nil, true
    handler:body_filter()
  end
  handler:log(settings)
  doubles.fire(state)
  local text = state.sent[2] and state.sent[2]:match("\r\n\r\n(.*)$")
  return state, text and assert(cjson.decode(text))
end

describe("a reservation", function()
  it("is settled with the provider's answer", function()
    local state, body = serve({ GRANTED, SETTLED }, { chunks = { JSON:sub(1, 9), JSON:sub(10) } })
    assert.is_truthy(state.sent[2]:find("^POST /v1/settle "))
    assert.same({ reservation = "res-1", response_body = cjson.decode(JSON) }, body)
    assert.is_true(state.cleared["Accept-Encoding"])
    assert.same({}, state.logs)
  end)

  it("is given back when nothing was used", function()
    local cases = {
      { status = 500, chunks = { '{"error":{}}' } },
      { status = 502, type = "text/html", source = "error", chunks = { "<p>" } },
      { status = 403, source = "exit", chunks = { "{}" } },
    }
    for _, case in ipairs(cases) do
      local _, body = serve({ GRANTED, SETTLED }, case)
      assert.same({ reservation = "res-1",
                    usage = { prompt_tokens = 0, completion_tokens = 0 } }, body)
    end
  end)

  it("counts the usage of an error that has some", function()
    local _, body = serve({ GRANTED, SETTLED }, { status = 500, chunks = { JSON } })
    assert.equal(94, body.response_body.usage.completion_tokens)
  end)

  it("stays charged when nobody knows", function()
    local cases = {
      { chunks = { '{"no":"usage"}' } },
      { chunks = { "broken{" } },
      { chunks = { ("x"):rep(2001) } },
      { encoding = "gzip", chunks = { "\31\139" } },
      { type = "text/plain", chunks = { "hello" } },
      { status = 499, unseen = true },
      { unseen = true },
    }
    for number, case in ipairs(cases) do
      local state, body = serve({ GRANTED }, case)
      assert.is_nil(body, number)
      assert.is_truthy(state.logs[1]:find("stays charged", 1, true), number)
    end
  end)

  it("is left alone when that is configured, or when there is none", function()
    local state = serve({ GRANTED }, { chunks = { JSON }, conf = { settle = false } })
    assert.equal(1, #state.sent)
    assert.same({}, state.cleared)
    state = serve({ answer(200) }, { chunks = { JSON } })
    assert.equal(1, #state.sent)
    assert.same({}, state.logs)
  end)
end)

describe("a stream", function()
  local function settled(chunks, kind)
    local _, body = serve(
      { GRANTED, SETTLED }, { type = kind or "text/event-stream; charset=utf-8", chunks = chunks })
    return body.response_body
  end

  it("of OpenAI chat has usage in its last chunk", function()
    local found = settled {
      'data: {"choices":[{"delta":{"content":"\\"usage\\":{"}}],"usage":null}\n\nda',
      'ta: {"choices":[],"usa',
      'ge":{"prompt_tokens":5,"completion_tokens":7}}\r\n\r\ndata: [DONE]\n\n',
    }
    assert.same({ usage = { prompt_tokens = 5, completion_tokens = 7 } }, found)
  end)

  it("of OpenAI responses has it in the completed response", function()
    local found = settled { 'event: response.completed\ndata: {"type":"response.completed",'
      .. '"response":{"usage":{"input_tokens":3,"output_tokens":4}}}' }
    assert.same({ usage = { input_tokens = 3, output_tokens = 4 } }, found)
  end)

  it("of Anthropic grows", function()
    local found = settled {
      'data: {"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}\n\n',
      'data: {"type":"message_delta","usage":{"output_tokens":20}}\n\n',
      'data: {"type":"message_delta","usage":{"output_tokens":15,"input_tokens":0}}\n\n',
    }
    assert.same({ type = "message", usage = { input_tokens = 9, output_tokens = 20 } }, found)
  end)

  it("of Gemini is cumulative, also as an array", function()
    local one = '{"usageMetadata":{"promptTokenCount":2,"candidatesTokenCount":1}}'
    local two = '{"usageMetadata":{"promptTokenCount":2,"candidatesTokenCount":8}}'
    local found = settled { "data: " .. one .. "\n\ndata: " .. two .. "\n\n" }
    assert.equal(8, found.usageMetadata.candidatesTokenCount)
    found = settled({ "[" .. one .. ",", two .. "]" }, "application/json")
    assert.equal(8, found[2].usageMetadata.candidatesTokenCount)
  end)

  it("is not held in memory", function()
    local state = serve({ GRANTED }, {
      type = "text/event-stream", chunks = { "data: " .. ("x"):rep(1500), ("x"):rep(1500) },
    })
    assert.is_truthy(state.logs[1]:find("stays charged", 1, true))
  end)
end)

describe("telling the daemon", function()
  it("is tried three times", function()
    local busy = answer(503)
    local state = serve({ GRANTED, busy, busy, SETTLED }, { chunks = { JSON } })
    assert.equal(1, state.timers[1].delay)
    doubles.fire(state)
    assert.equal(2, state.timers[1].delay)
    doubles.fire(state)
    assert.same({}, state.timers)
    assert.same({}, state.logs)
    assert.equal(4, #state.sent)
  end)

  it("ends with a log line", function()
    local state = serve({ GRANTED }, { chunks = { JSON } })
    doubles.fire(state)
    doubles.fire(state)
    assert.same({}, state.timers)
    assert.is_truthy(state.logs[1]:find("stays charged: ", 1, true))
  end)

  it("does not repeat what cannot be mended", function()
    local state = serve({ GRANTED, answer(409, {}, '{"error":"reservation_not_found"}') },
      { chunks = { JSON } })
    assert.same({}, state.timers)
    assert.is_truthy(state.logs[1]:find("reservation_not_found", 1, true))
  end)

  it("does not wait when the worker ends", function()
    local state = doubles.install({}, { { GRANTED, answer(503) } })
    handler:access(conf())
    state.source = "exit"
    handler:log(conf())
    doubles.fire(state, true)
    assert.equal(2, #state.sent)
    assert.same({}, state.timers)
    assert.equal(1, #state.logs)
  end)

  it("says when there are no timers", function()
    local state = doubles.install({}, { { GRANTED } })
    handler:access(conf())
    state.source, state.no_timers = "exit", true
    handler:log(conf())
    assert.is_truthy(state.logs[1]:find("too many pending timers", 1, true))
  end)
end)
