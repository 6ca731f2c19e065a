-- Shared head of every script on an event, its second part: who waits, who is
-- called, who is inside, what is kept for shares, what an id stands for.

local function page_of(number) return int(math.floor(number / 65536)) end
local function bit_of(number) return int(number % 65536) end

local LIVE = { index = K.pages, part = 0, window = 'window' }
local FRESH = { index = K.fresh_pages, part = 2, window = 'fresh_window' }

-- The bitmap of a page's 65,536 numbers. One that somebody made longer would
-- be copied and read whole at every look, and keep the server from all else.
local function sound(key)
  if call('STRLEN', key) > 8192 then damaged('a bitmap longer than a page', key) end
  return key
end

local function page_key(page, part)
  local base = page_base[page]
  if not base then damaged('page ' .. page .. ' was not declared', K.meta) end
  return KEYS[base + part]
end
local function window_key(kind, page, window) return page_key(page, kind.part + window % 2) end

-- The window that a page was last turned to; nil when there is no such page.
local function turned(kind, page)
  return tonumber(call('ZSCORE', kind.index, page) or nil)
end

-- Brings a page to the present window; makes it.
local function turn_page(kind, page)
  local at, window = turned(kind, page), m[kind.window]
  if at == nil or window > at + 1 then
    call('DEL', window_key(kind, page, 0), window_key(kind, page, 1))
  elseif window == at + 1 then
    call('DEL', window_key(kind, page, window))
  end
  if at == nil or window > at then call('ZADD', kind.index, int(window), page) end
  return window_key(kind, page, window)
end

local function hear_one(kind, number)
  call('SETBIT', turn_page(kind, page_of(number)), bit_of(number), 1)
end

-- The bitmaps of a page that count in the present window.
local function counting(kind, page)
  local at, window = turned(kind, page), m[kind.window]
  if at == nil or window > at + 1 then return {} end
  if window == at + 1 then return { sound(window_key(kind, page, at)) } end
  return { sound(window_key(kind, page, 0)), sound(window_key(kind, page, 1)) }
end

local function lives_in(kind, number)
  for _, key in ipairs(counting(kind, page_of(number))) do
    if call('GETBIT', key, bit_of(number)) == 1 then return true end
  end
  return false
end

local function forget(kind, number)
  local page = page_of(number)
  if not turned(kind, page) then return end
  for parity = 0, 1 do
    local key = window_key(kind, page, parity)
    if call('GETBIT', key, bit_of(number)) == 1 then call('SETBIT', key, bit_of(number), 0) end
  end
end

-- The bitmap of a page's spent numbers, if there is one.
local function spent_key(page)
  return call('SISMEMBER', K.spent_pages, page) == 1 and sound(page_key(page, 4)) or nil
end

local function spent_page(page)
  local key = page_key(page, 4)
  if call('SADD', K.spent_pages, page) == 1 then call('DEL', key) end
  return key
end

local function is_spent(number)
  local key = spent_key(page_of(number))
  return key ~= nil and call('GETBIT', key, bit_of(number)) == 1
end

local function drop_offer(number)
  call('ZREM', K.offers, number)
  call('ZREM', K.offers_due, number)
  call('SREM', K.asked, number)
end

local function spend(number)
  call('SETBIT', spent_page(page_of(number)), bit_of(number), 1)
  forget(LIVE, number)
  forget(FRESH, number)
  drop_offer(int(number))
end

local function lives(number)
  return not is_spent(number) and (lives_in(LIVE, number) or lives_in(FRESH, number))
end

-- Numbering goes on above what a gateway numbered by itself, in the second
-- after: others of that second may still be unheard. False for an absurd number:
-- one far beyond the clock and beyond what was issued, for the clock may have been
-- set back.
local function rise(highest)
  local known, issued = unix_second(), EPOCH + math.floor(m.issued / 1048576)
  if issued > known + RESTART_AHEAD then known = issued end
  if highest >= first_of_second(known + 60) then return false end
  if highest >= m.issued then m.issued = next_second(highest) end
  return true
end

-- What was called ten minutes ago: below it only who still asks may claim. And what
-- a reset made void, which nobody may.
local function floor()
  local minute, lowest, void = math.floor(m.time / 60000), 0, 0
  for marked, called in string.gmatch(m.marks, '(%d+):(%d+)') do
    if tonumber(marked) + FLOOR_MINUTES < minute then lowest = tonumber(called) end
    if tonumber(marked) == 0 then void = tonumber(called) end
  end
  return lowest, void
end
local function lowest_page() return math.floor(floor() / 65536) end

-- Whether a page was dropped, and with it which of its numbers were spent.
local function is_gone(page)
  return tonumber(page) < lowest_page() and not turned(LIVE, page) and not turned(FRESH, page)
end

-- Living tickets of a page, and the highest of them.
local function hear(page, highest, bits)
  if not rise(highest) or is_gone(page) then return end
  local key = sound(turn_page(LIVE, page))
  call('SET', K.scratch, bits)
  call('BITOP', 'OR', key, key, K.scratch)
  call('DEL', K.scratch)
end

-- Puts what lives on a page into the scratch key.
local function living(page)
  local sources = counting(LIVE, page)
  for _, key in ipairs(counting(FRESH, page)) do sources[#sources + 1] = key end
  if #sources == 0 then
    call('DEL', K.scratch)
    return
  end
  call('BITOP', 'OR', K.scratch, unpack(sources))
  local spent = spent_key(page)
  if spent then
    call('BITOP', 'AND', K.mask, K.scratch, spent)
    call('BITOP', 'XOR', K.scratch, K.scratch, K.mask)
    call('DEL', K.mask)
  end
end

-- Removes expired sessions; nothing expires during a recovery.
local function purge()
  if m.recovery then return 0 end
  local expired = call('ZREMRANGEBYSCORE', K.active, '-inf', int(m.time))
  m.closed = m.closed + expired
  add('closed', expired)
  return expired
end

local function expiry(session) return tonumber(call('ZSCORE', K.active, session) or nil) end
local function has_ended(session) return call('ZSCORE', K.ended, session) and true or false end
local function insert(session, expires) call('ZADD', K.active, int(expires), session) end

-- Calls `each` with every share: holder, slots, turn, until.
local function each_share(text, each)
  for holder, slots, turn, till in string.gmatch(text or '', '(%d+):(%d+):(%d+):(%d+)') do
    each(holder, tonumber(slots), tonumber(turn), tonumber(till))
  end
end
-- Slots that shares keep.
local function reserved()
  local sum = 0
  each_share(m.shares, function(_, slots, _, till)
    if till > m.time then sum = sum + slots end
  end)
  return sum
end

-- Sessions, ghosts, shares and `offers` together are below the limit.
local function has_room(offers)
  return not m.limit or call('ZCARD', K.active) + offers + m.ghosts + reserved() < m.limit
end

local function by_order() return m.mode == 'off' or m.mode == 'shadow' end

-- What the bucket of admissions holds under a pace: at most one second of
-- them, and always room for one.
local function tokens(pace)
  local rate = m.admit
  if pace and (not rate or pace < rate) then rate = pace end
  if not rate then return math.huge end
  local elapsed = math.max(m.time - m.tokens_at, 0)
  return math.min(m.tokens + elapsed * rate / 1000, math.max(rate, 1))
end

local function pay(admissions)
  local held = tokens(m.pace)
  m.tokens = held == math.huge and 1 or math.max(held - admissions, -1)
  m.tokens_at = m.time
end

-- An id given through the API: its bucket, and what is written there. An
-- entry of an earlier life or generation stands for nothing.
local function ids_of(id) return bucket_key[int(math.floor(tonumber(string.sub(id, 1, 3), 16) / 4))] end

local function named(text)
  local born, session, begun = string.match(text or '', '^s:(%d+):(%x+):(%d+)$')
  if session then return born == m.born and session or nil, nil, begun end
  local life, resets, number = string.match(text or '', '^t:(%d+):(%d+):(%d+)$')
  if number and life == m.born and tonumber(resets) == m.resets then return nil, tonumber(number) end
end

local function remembered_id(id)
  if id == '' then return nil end
  return named(call('HGET', ids_of(id), id) or nil)
end

-- Drops the entries of a bucket that cannot live any more.
local function tidy_ids(key)
  if call('HLEN', key) % 64 ~= 63 then return end
  local flat = call('HGETALL', key)
  for i = 1, #flat, 2 do
    local session, number = named(flat[i + 1])
    local dead = not session and not number
    if session then dead = not expiry(session) end
    if number then dead = not turned(LIVE, page_of(number)) and not turned(FRESH, page_of(number)) end
    if dead then call('HDEL', key, flat[i]) end
  end
end

local function write_id(id, text)
  if id == '' then return end
  local key = ids_of(id)
  tidy_ids(key)
  call('HSET', key, id, text)
  call('EXPIRE', key, 86400)
end
-- A session that begins now.
local function name_session(id, session)
  write_id(id, 's:' .. m.born .. ':' .. session .. ':' .. int(m.time))
end
local function name_ticket(id, number)
  write_id(id, 't:' .. m.born .. ':' .. int(m.resets) .. ':' .. int(number))
end

-- What an id stands for, if that still lives: as `enter` answers it.
local function known(id)
  local session, number, begun = remembered_id(id)
  if session then
    local expires = expiry(session)
    if expires then return 's ' .. session .. ' ' .. begun .. ' ' .. int(expires) end
  elseif number and lives(number) then
    return 't ' .. int(number)
  end
end
