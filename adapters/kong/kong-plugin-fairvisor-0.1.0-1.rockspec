package = "kong-plugin-fairvisor"
version = "0.1.0-1"
rockspec_format = "3.0"
-- For `luarocks make` in this folder: there is no archive to download.
source = { url = "." }
description = {
  summary = "Policy and spend control for APIs and LLMs: exact limits, token and money budgets",
  license = "Apache-2.0",
}
dependencies = {
  "lua >= 5.1",
}
build = {
  type = "builtin",
  modules = {
    ["kong.plugins.fairvisor.answer"] = "kong/plugins/fairvisor/answer.lua",
    ["kong.plugins.fairvisor.client"] = "kong/plugins/fairvisor/client.lua",
    ["kong.plugins.fairvisor.handler"] = "kong/plugins/fairvisor/handler.lua",
    ["kong.plugins.fairvisor.question"] = "kong/plugins/fairvisor/question.lua",
    ["kong.plugins.fairvisor.schema"] = "kong/plugins/fairvisor/schema.lua",
    ["kong.plugins.fairvisor.settlement"] = "kong/plugins/fairvisor/settlement.lua",
    ["kong.plugins.fairvisor.usage"] = "kong/plugins/fairvisor/usage.lua",
  },
}
