-- Tells until when sessions live, without extending them.
--
-- KEYS   the fixed ones
-- ARGV   count; the sessions
-- reply  done, for each its expiry, or an empty text when it is gone

local met = begin()
if met then return met end

local answers = {}
for i = 1, num() do
  local expires = expiry(arg())
  -- Nothing expires during a recovery.
  local lives = expires and (m.recovery or expires > m.time)
  answers[i] = lives and int(expires) or ''
end
return done(answers)
