-- Extends living sessions.
--
-- KEYS   the fixed ones
-- ARGV   count; per session: session, when it began, until when its pass is
--        good, until when the origin wants it kept
-- reply  done, for each its expiry, or an empty text when it is gone

local met = begin()
if met then return met end

local function touch(session, begun, till, keep)
  local old = math.max(m.time - begun, 0) >= m.session_max_ms
  local longest = math.max(m.time + m.session_idle_ms, keep)
  local expires = expiry(session)
  if expires then
    -- What the pass says was acknowledged, if only by a store that has forgotten it.
    expires = math.max(expires, till)
    if not old or m.called >= m.issued then expires = math.max(longest, expires) end
    call('ZREM', K.unproven, session)
    insert(session, expires)
    return int(expires)
  end
  if has_ended(session) then return '' end
  -- An unexpired pass proves that the store once acknowledged it.
  if till > m.time and (m.recovery or m.ghosts > 0) then
    m.ghosts = math.max(m.ghosts - 1, 0)
    call('ZREM', K.unproven, session)
    expires = math.max(longest, till)
    insert(session, expires)
    note_sessions()
    return int(expires)
  end
  return ''
end

purge()
local answers = {}
for i = 1, num() do
  local session, begun, till, keep = arg(), num(), num(), num()
  answers[i] = touch(session, begun, till, keep)
end
return done(answers)
