-- Shared head of every script on an event, its first part: keys, arguments,
-- the state in `m`, the running time, recovery, gateways. `line.lua` is the second.
-- It does what `store/memory/state/` does, in the same order.
--
-- KEYS   the fixed keys, in the order of FIXED; five for each page: live even,
--        live odd, fresh even, fresh odd, spent; one for each bucket of ids
-- ARGV   count of pages, the pages; count of buckets, the buckets; what the
--        script itself asks for
-- reply  a list that begins with a word: done, recovering, absent; or moved,
--        with the pages that the script needs and that were not declared

local FIXED = { 'meta', 'pages', 'fresh_pages', 'spent_pages', 'active', 'offers', 'offers_due',
  'asked', 'ended', 'unproven', 'density', 'gateways', 'tally', 'trash', 'scratch', 'mask' }
local K = {}
for i, name in ipairs(FIXED) do K[name] = KEYS[i] end

-- Calls the server; a failure names the command and the key.
local function call(command, ...)
  local answer = redis.pcall(command, ...)
  if type(answer) == 'table' and answer.err then
    local key = select(command == 'BITOP' and 2 or 1, ...) or '-'
    error({ err = answer.err .. ' (' .. command .. ' under key ' .. key .. ')' })
  end
  return answer
end

local function damaged(what, key)
  error({ err = 'DAMAGED ' .. what .. ' under key ' .. key })
end

-- All numbers are doubles: whole ones up to 2^53 are written in full.
local function int(n) return string.format('%.0f', n) end
local function float(x) return string.format('%.17g', x) end

local cursor = 0
local function arg()
  cursor = cursor + 1
  return ARGV[cursor]
end
local function num() return tonumber(arg()) end

local page_base, bucket_key, declared = {}, {}, {}
do
  local base = #FIXED
  for i = 1, num() do
    local page = arg()
    declared[i] = page
    page_base[page] = base + (i - 1) * 5 + 1
  end
  base = base + #declared * 5
  for i = 1, num() do bucket_key[arg()] = KEYS[base + i] end
end

-- The server's clock and process.
local raw, run
local function server()
  local time, info = call('TIME'), call('INFO', 'server')
  raw = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  run = string.match(info, 'run_id:(%x+)')
end

-- The state: i whole number, f fraction, s text; with a question mark, it may
-- be absent and is then stored as an empty text.
local KIND = { schema = 'i', born = 's', born_at = 'i', generation = 'i', issued = 'i',
  called = 'i', seq = 'i', run = 's', raw = 'i', time = 'i', stepped = 'i', window = 'i',
  window_since = 'i', fresh_window = 'i', fresh_since = 'i', gate = 's', since = 'i',
  calm_since = 'i?', pace = 'f?', called_at = 'i', tokens = 'f', tokens_at = 'i', show = 'f',
  settled = 'i', shown = 'i', begun = 'i', closed = 'i', mode = 's', limit = 'i?', admit = 'f?',
  session_idle_ms = 'i', session_max_ms = 'i', window_ms = 'i', cfgver = 'i', recoveries = 'i',
  recovery = 'i?', cause = 's?', recovery_until = 'i?', recovery_deadline = 'i?',
  remembered = 'i?', unheard = 'i?', inside = 'i?', ghosts = 'i', ghosts_until = 'i', marks = 's', shares = 's?', resets = 'i' }
local SCHEMA = 1
local m, stored = {}, {}

local function load()
  local flat = call('HGETALL', K.meta)
  if #flat == 0 then return false end
  for i = 1, #flat, 2 do stored[flat[i]] = flat[i + 1] end
  if tonumber(stored.schema) ~= SCHEMA then
    damaged('schema ' .. tostring(stored.schema) .. ' is not known', K.meta)
  end
  for field, kind in pairs(KIND) do
    local text = stored[field]
    -- One that may be absent an earlier release has not written.
    if text == nil and #kind == 1 then damaged('no field ' .. field, K.meta) end
    text = text or ''
    if string.sub(kind, 1, 1) == 's' then
      if text ~= '' or kind == 's' then m[field] = text end
    elseif text ~= '' or #kind == 1 then
      m[field] = tonumber(text)
      if m[field] == nil then damaged('field ' .. field .. ' is no number', K.meta) end
    end
  end
  return true
end

-- What was counted since the generation began, read when it is first needed:
-- it decides nothing, so most operations do without.
local TALLY = { 'since', 'begun', 'closed', 'issued', 'abandoned', 'sessions', 'sessions_at',
  'waiting', 'waiting_at' }
local counted, recounted

local function tally()
  if counted then return counted end
  counted = {}
  local values = call('HMGET', K.tally, unpack(TALLY))
  for i, field in ipairs(TALLY) do
    counted[field] = tonumber(values[i] or 0)
    if counted[field] == nil then damaged('field ' .. field .. ' is no number', K.tally) end
  end
  return counted
end

local function add(field, more)
  if more == 0 then return end
  local t = tally()
  t[field], recounted = t[field] + more, true
end

-- The most of something at once, and when that was first so.
local function note(what, many, at)
  local t = tally()
  if many > t[what] then t[what], t[what .. '_at'], recounted = many, at, true end
end

-- Notes how many are inside; after every operation that lets any in.
local function note_sessions() note('sessions', call('ZCARD', K.active), m.time) end

-- Counting begins.
local function begin_tally()
  counted, recounted = {}, true
  for _, field in ipairs(TALLY) do counted[field] = 0 end
  counted.since = m.time
end

local function save_tally()
  if not recounted then return end
  local fields = {}
  for _, field in ipairs(TALLY) do
    fields[#fields + 1] = field
    fields[#fields + 1] = int(counted[field])
  end
  call('HSET', K.tally, unpack(fields))
  recounted = false
end

-- Writes the fields that have changed, and how many are inside: a server that
-- throws keys away takes them without a word.
local function save()
  m.inside = call('ZCARD', K.active)
  local changed = {}
  for field, kind in pairs(KIND) do
    local value, text = m[field], ''
    if value ~= nil then
      local letter = string.sub(kind, 1, 1)
      text = letter == 'i' and int(value) or letter == 'f' and float(value) or value
    end
    if text ~= stored[field] then
      changed[#changed + 1] = field
      changed[#changed + 1] = text
      stored[field] = text
    end
  end
  if #changed > 0 then call('HSET', K.meta, unpack(changed)) end
  save_tally()
end

local UNPROVEN, OFFER, FRESH_WINDOW, STEP = 30000, 5000, 20000, 400
local RECOVERY_MIN, RECOVERY_GRACE, GONE, SILENCE = 3000, 10000, 10000, 2000
local SHARE_COUNTED, HOLDERS_MAX = 660000, 512
local FLOOR_MINUTES, EPOCH, RESTART_AHEAD = 10, 1735689600, 2

local function first_of_second(second)
  return math.min(math.max(second - EPOCH, 0) * 1048576, 9007199254740991)
end
-- Two seconds ahead: gateways may number by themselves in the one at hand. Within
-- the second by the millisecond: a store may begin twice in one.
local function restart(ms)
  return math.min(first_of_second(math.floor(ms / 1000) + RESTART_AHEAD) + ms % 1000 * 500, 9007199254740991)
end
-- The first number of the second after a number's.
local function next_second(number) return (math.floor(number / 1048576) + 1) * 1048576 end
-- The upper half of a second's numbers belongs to gateways.
local function next_issued(number)
  local next = number + 1
  return next % 1048576 >= 524288 and next_second(next) or next
end
-- The second that numbers carry: where the server's clock was set back (another
-- server's, after a failover), numbering goes on from the running time.
local function unix_ms() return math.max(raw, m.time or 0) end
local function unix_second() return math.floor(unix_ms() / 1000) end

local function advance(time, before, now)
  local step = math.min(math.max(now - before, 0), SILENCE)
  local tenth, next = math.floor(step / 10), time + step
  if time < before then return next + math.min(tenth, math.max(now - next, 0)) end
  if time > before then
    return next - math.min(math.min(tenth, math.max(next - now, 0)), step)
  end
  return next
end

local rows
-- The gateways' rows, by name.
local function gateways()
  if rows then return rows end
  rows = {}
  local flat = call('HGETALL', K.gateways)
  for i = 1, #flat, 2 do
    local name, field = string.match(flat[i], '^(.*):(%a+)$')
    if name then
      rows[name] = rows[name] or {}
      rows[name][field] = flat[i + 1]
    end
  end
  for _, row in pairs(rows) do
    row.slot, row.seen = tonumber(row.slot) or 255, tonumber(row.seen) or 0
    row.pushed = tonumber(row.pushed) or 0
  end
  return rows
end

-- A gateway's row, made at its first call.
local function row(name)
  local all = gateways()
  local mine = all[name]
  if not mine then
    -- From the name, so that a gateway has the same slot in every life of the
    -- store: one that still numbers with its old slot must meet no other there.
    local taken, slot, tried = {}, 0, 1
    for _, other in pairs(all) do taken[other.slot] = true end
    for i = 1, #name do slot = (slot * 31 + string.byte(name, i)) % 256 end
    while taken[slot] and tried < 256 do slot, tried = (slot + 1) % 256, tried + 1 end
    mine = { slot = slot, pushed = m.recoveries, report = '' }
    all[name] = mine
    call('HSET', K.gateways, name .. ':slot', int(slot), name .. ':pushed', int(m.recoveries))
  end
  mine.seen = m.time
  call('HSET', K.gateways, name .. ':seen', int(m.time))
  return mine
end

local function begin_recovery(cause)
  -- A silence in the middle of a recovery brings nothing back that was lost.
  if cause == 'silence' and m.recovery and m.cause then cause = m.cause end
  -- A silence leaves the store's own memory whole: nothing else needs waiting for.
  local wait = cause == 'silence' and 0 or m.window_ms
  -- This state was born without memory, with everybody called whoever had
  -- waited before: they are still to be called, in their order.
  if m.recoveries == 0 and (cause == 'loss' or cause == 'token') then m.called, m.marks = 0, '' end
  m.unheard = m.recovery and m.unheard or 0
  m.recoveries = m.recoveries + 1
  m.recovery, m.cause = m.recoveries, cause
  m.recovery_until = m.time + RECOVERY_MIN
  m.recovery_deadline = m.time + wait + RECOVERY_GRACE
  m.remembered = cause == 'silence' and 1 or 0
  -- Where something was forgotten, numbers above these may have been issued, and
  -- the clock may have been set back since.
  local known = cause == 'silence' and 0 or EPOCH + math.floor(m.issued / 1048576)
  m.issued = math.max(m.issued, restart(math.max(known * 1000, unix_ms())))
end

-- Whether a gateway is gone, or has forgotten, that may have told a visitor of a
-- later end of his session than anybody else knows.
local function misses_one()
  if m.unheard == 1 then return true end
  for _, other in pairs(gateways()) do
    if other.pushed < m.recovery and other.seen + m.session_idle_ms >= m.recovery_until then
      return true
    end
  end
end

-- Lets every session live as if it had been heard from now.
local function keep_all()
  local till = int(m.time + m.session_idle_ms)
  local early = call('ZRANGEBYSCORE', K.active, '-inf', '(' .. till)
  for first = 1, #early, 500 do
    local pairs = {}
    for i = first, math.min(first + 499, #early) do
      pairs[#pairs + 1], pairs[#pairs + 2] = till, early[i]
    end
    call('ZADD', K.active, unpack(pairs))
  end
end

local function end_recovery()
  if not m.recovery then return end
  local pushed = true
  for _, other in pairs(gateways()) do
    pushed = pushed and (other.pushed >= m.recovery or other.seen + GONE < m.recovery_until)
  end
  local answered = m.remembered == 1 and pushed and m.time >= m.recovery_until
  if not answered and m.time < m.recovery_deadline then return end
  if m.cause ~= 'silence' and misses_one() then keep_all() end
  m.recovery, m.cause, m.recovery_until, m.recovery_deadline = nil, nil, nil, nil
  m.remembered, m.unheard = nil, nil
  -- What was heard during the recovery gets a whole window.
  m.window_since, m.fresh_since = m.time, m.time
  m.ghosts_until = m.time + m.session_idle_ms
  for _, number in ipairs(call('ZRANGE', K.offers, 0, -1)) do
    call('ZADD', K.offers_due, int(m.time + OFFER), number)
  end
end

-- The running time moves; a silence, another server process or sessions thrown
-- away begin a recovery (true), a recovery that is over ends.
local function arrive()
  local gap = math.max(raw - m.raw, 0)
  local cause = m.run ~= run and 'run' or gap > SILENCE and 'silence' or nil
  m.time = advance(m.time, m.raw, raw)
  m.raw, m.run = raw, run
  local missing = (m.inside or 0) - call('ZCARD', K.active)
  if missing > 0 then
    m.ghosts = m.ghosts + missing
    m.ghosts_until = m.time + m.session_idle_ms
    cause = cause or 'stale'
  end
  if cause then
    begin_recovery(cause)
    return true
  end
  end_recovery()
  if m.ghosts > 0 and m.time >= m.ghosts_until then m.ghosts = 0 end
  return false
end

-- Every operation but restore begins here; an answer ends the script.
local function begin()
  server()
  if not load() then return { 'absent' } end
  if arrive() then
    save()
    return { 'recovering' }
  end
end

local function done(...)
  save()
  return { 'done', ... }
end

-- The pages that were not declared: nothing was changed but the running time.
local function moved(pages)
  local missing = {}
  for page in pairs(pages) do
    if not page_base[page] then missing[#missing + 1] = page end
  end
  if #missing == 0 then return nil end
  save()
  return { 'moved', missing }
end
