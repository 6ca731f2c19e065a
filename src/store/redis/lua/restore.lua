-- Takes in what a gateway remembers; creates the event if need be.
--
-- KEYS   the fixed ones; the pages
-- ARGV   gateway, born or empty, seq, newborn, time, generation, issued, called,
--        gate, marks, shares, young (1 or 0), mode, limit or empty, rate or
--        empty, session idle, session max, window, cfgver, sessions known, complete (1 or 0), token (1 or 0),
--        the tally in the order of TALLY;
--        then lists, each with its count first: sessions (session, expires),
--        ended (session, when), spent (page, bitmap), living (page, highest
--        number, bitmap), peers (name,
--        when seen)
-- reply  done, born, cause of the recovery begun here or empty, sessions
--        brought back

server()

local gateway, born, seq, newborn = arg(), arg(), num(), arg()
local s = { time = num(), generation = num(), issued = num(), called = num(), gate = arg(), marks = arg(),
  shares = arg(), young = arg() == '1' }
local rules = { mode = arg(), limit = tonumber(arg()), admit = tonumber(arg()),
  session_idle_ms = num(), session_max_ms = num(), window_ms = num() }
local cfgver, sessions_known, complete, token = num(), num(), arg() == '1', arg() == '1'
local told = {}
for _, field in ipairs(TALLY) do told[field] = num() end

-- Remembers pages whose bitmaps nothing names any more, to be discarded later.
local function abandon(pages)
  for _, page in ipairs(pages) do call('SADD', K.trash, page) end
end

local function create()
  abandon(call('ZRANGE', K.pages, 0, -1))
  abandon(call('ZRANGE', K.fresh_pages, 0, -1))
  abandon(call('SMEMBERS', K.spent_pages))
  call('DEL', K.pages, K.fresh_pages, K.spent_pages, K.active, K.offers, K.offers_due, K.asked,
    K.ended, K.unproven, K.density, K.gateways, K.tally)
  -- Who remembers the running time carries it on: passes must not die of an
  -- outage that ends in an empty store.
  local time = born == '' and raw or s.time
  m.time = time
  local number = math.max(restart(unix_ms()), s.issued)
  m = { schema = SCHEMA, born = newborn, born_at = time, generation = s.generation,
    issued = number, called = born == '' and number or math.min(s.called, number), seq = 0, run = run, raw = raw,
    time = time, stepped = 0, window = 0, window_since = time, fresh_window = 0,
    fresh_since = time, gate = s.gate, since = time, called_at = 0, tokens = 1, tokens_at = time,
    show = 1, settled = 0, shown = 0, begun = 0, closed = 0, cfgver = cfgver, recoveries = 0,
    ghosts = 0, ghosts_until = 0, marks = s.marks, resets = 0 }
  for field, value in pairs(rules) do m[field] = value end
  begin_tally()
end

if not load() then create() end
-- A recovery that begins here is told by the restore itself.
arrive()

-- Whether the push shows that this state has forgotten something.
local function doubt()
  if m.recovery then return '' end
  if born ~= '' and born ~= m.born then return 'loss' end
  if born ~= '' and seq > m.seq then return 'stale' end
  return token and m.recoveries == 0 and 'token' or ''
end

-- What was counted comes back: of each count the larger one, for both began
-- at nothing. A later generation's is taken whole.
local function recall()
  if s.generation < m.generation then return end
  local t, later = tally(), s.generation > m.generation
  if later then
    for _, field in ipairs(TALLY) do t[field] = told[field] end
  else
    if told.since > 0 then t.since = math.min(t.since, told.since) end
    for _, field in ipairs({ 'begun', 'closed', 'issued', 'abandoned' }) do
      t[field] = math.max(t[field], told[field])
    end
    for _, what in ipairs({ 'sessions', 'waiting' }) do note(what, told[what], told[what .. '_at']) end
  end
  recounted = true
end

-- Of each holder of a share what it said last.
local function recall_shares()
  local kept, at = {}, {}
  local function keep(holder, slots, turn, till)
    local known = at[holder]
    if known and known.turn >= turn then return end
    if not known then
      if #kept >= HOLDERS_MAX then return end
      known = {}
      at[holder], kept[#kept + 1] = known, known
    end
    known.turn, known.text = turn, table.concat({ holder, int(slots), int(turn), int(till) }, ':')
  end
  each_share(m.shares, keep)
  each_share(s.shares, keep)
  for i, share in ipairs(kept) do kept[i] = share.text end
  m.shares = table.concat(kept, ',')
end

-- Whether this brings a memory. Where a token told of the loss, who knows this
-- state alone knows nothing of what was before it.
local function is_memory()
  return born ~= '' and not (m.cause == 'token' and born == m.born)
end

-- The running time goes on from a later one that a gateway remembers; what has
-- begun since the loss takes as long as it would have.
local function go_on_from(time)
  local missing = math.max(time - m.time, 0)
  if missing == 0 then return end
  m.time = m.time + missing
  m.recovery_until, m.recovery_deadline = m.recovery_until + missing, m.recovery_deadline + missing
  for name, other in pairs(gateways()) do
    other.seen = other.seen + missing
    call('HSET', K.gateways, name .. ':seen', int(other.seen))
  end
end

local function remember()
  if born ~= '' then
    go_on_from(s.time)
    m.issued = math.max(m.issued, s.issued)
    m.called = math.min(math.max(m.called, s.called), m.issued)
    recall()
    m.generation = math.max(m.generation, s.generation)
    if m.marks == '' then m.marks = s.marks end
    recall_shares()
    if is_memory() then m.remembered = 1 end
    if s.young then m.unheard = 1 end
  end
  local sessions, restored = {}, 0
  for i = 1, num() do sessions[i] = { arg(), num() } end
  for _ = 1, num() do
    local session, at = arg(), num()
    call('ZREM', K.active, session)
    call('ZADD', K.ended, 'NX', int(at), session)
  end
  for _, pair in ipairs(sessions) do
    local session, expires = pair[1], pair[2]
    if not has_ended(session) then
      local before = expiry(session)
      if not before or before < expires then insert(session, expires) end
      if not before then restored = restored + 1 end
    end
  end
  note_sessions()
  for _ = 1, num() do
    local page, bits = arg(), arg()
    local key = spent_page(page)
    call('SET', K.scratch, bits)
    call('BITOP', 'OR', key, key, K.scratch)
    call('DEL', K.scratch)
  end
  for _ = 1, num() do
    local page, highest, bits = arg(), num(), arg()
    hear(page, highest, bits)
  end
  local last_known = sessions_known
  if token and not is_memory() then last_known = m.limit or 0 end
  -- A silence loses nothing: who is not in the store has ended.
  if m.cause ~= 'silence' then
    local active = call('ZCARD', K.active)
    m.ghosts = math.max(math.max(last_known, m.ghosts + active - restored) - active, 0)
    m.ghosts_until = m.time + m.session_idle_ms
  end
  for _ = 1, num() do
    local peer, seen = arg(), num()
    if not gateways()[peer] then
      local theirs = row(peer)
      theirs.pushed = 0
      -- One that was gone already is not waited for.
      if seen + GONE < s.time then theirs.seen = math.min(seen, m.time) end
      call('HSET', K.gateways, peer .. ':pushed', '0', peer .. ':seen', int(theirs.seen))
    end
  end
  return restored
end

local began, restored = doubt(), 0
if began ~= '' then begin_recovery(began) end
if m.recovery then
  restored = remember()
  local mine = row(gateway)
  if complete then
    if mine.pushed < m.recovery and not is_memory() then m.unheard = 1 end
    mine.pushed = m.recoveries
    call('HSET', K.gateways, gateway .. ':pushed', int(m.recoveries))
  end
end
return done(m.born, began, restored)
