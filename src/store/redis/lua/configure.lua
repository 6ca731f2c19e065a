-- Writes what the store guards, if nobody else did since.
--
-- KEYS   the fixed ones
-- ARGV   version seen; mode, limit or empty, rate or empty, session idle,
--        session max, window
-- reply  done, the version that stands

local met = begin()
if met then return met end

local seen = num()
local rules = { mode = arg(), limit = tonumber(arg()), admit = tonumber(arg()),
  session_idle_ms = num(), session_max_ms = num(), window_ms = num() }
local differs = false
for _, field in ipairs({ 'mode', 'limit', 'admit', 'session_idle_ms', 'session_max_ms', 'window_ms' }) do
  differs = differs or m[field] ~= rules[field]
end
if m.cfgver == seen and differs then
  for _, field in ipairs({ 'mode', 'limit', 'admit', 'session_idle_ms', 'session_max_ms', 'window_ms' }) do
    m[field] = rules[field]
  end
  m.cfgver = m.cfgver + 1
end
return done(int(m.cfgver))
