-- Tells what an id stands for.
--
-- KEYS   the fixed ones; the page of the id's ticket, once it is known; the
--        id's bucket
-- ARGV   id
-- reply  done, "s SESSION BEGUN EXPIRES", "t NUMBER" or an empty text; or moved, pages

local met = begin()
if met then return met end

local id = arg()
local _, number = remembered_id(id)
local elsewhere = number and moved({ [page_of(number)] = true })
if elsewhere then return elsewhere end
return done(known(id) or '')
