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
  local expires = expiry(session)
  -- What the pass says was acknowledged, if only by a store that has forgotten it; an
  -- old session gets no more where others wait.
  local ends = till
  if not old or m.called >= m.issued then
    ends = math.max(till, keep, m.time + m.session_idle_ms)
  end
  if expires then
    ends = math.max(ends, expires)
  elseif has_ended(session) or till <= m.time or not (m.recovery or m.ghosts > 0) then
    return ''
  else
    -- An unexpired pass proves that the store once acknowledged it.
    m.ghosts = math.max(m.ghosts - 1, 0)
  end
  call('ZREM', K.unproven, session)
  insert(session, ends)
  if not expires then note_sessions() end
  return int(ends)
end

purge()
local answers = {}
for i = 1, num() do
  local session, begun, till, keep = arg(), num(), num(), num()
  answers[i] = touch(session, begun, till, keep)
end
return done(answers)
