-- Renews one worker's lease of one resource; the same as `settle` of lease_table.py, which says what a table is.
--
-- KEYS: the table
-- ARGV: worker, sequence, answered, limit, spent, want, ttl_ms, slice_ms, lifetime_ms
-- gives {granted, used, held}, or nil for a key of another type, which is then gone

local SLICES = 12
local REMEMBERED = 10
local MOST_UNITS = 1e14

local key = KEYS[1]
local worker = ARGV[1]
local sequence, answered = tonumber(ARGV[2]), tonumber(ARGV[3])
local limit, spent, want = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local ttl_ms, slice_ms, lifetime_ms = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local current = slice_ms > 0 and math.floor(now_ms / slice_ms) or 0

local function clamp(units)
  return math.max(-MOST_UNITS, math.min(MOST_UNITS, units))
end

-- Not %d, which ends at 2^31 in some builds; and no negative zero.
local function text(number)
  return string.format('%.0f', number + 0)
end

local function number(word)
  if word and string.find(word, '^-?%d+$') and #string.gsub(word, '-', '') <= 15 then
    return tonumber(word) + 0
  end
  return nil
end

local fields = redis.pcall('HGETALL', key)
if fields.err then
  redis.call('DEL', key)
  return false
end

local slices, holders, used, others = {}, {}, 0, 0
local mine = nil

local function read_slice(name, value)
  local place, units = number(string.sub(name, 3)), number(value)
  if place and units and place >= current - SLICES and place <= current + 1 then
    slices[place] = clamp(units)
    used = used + slices[place]
  end
end

local function read_holder(name, value)
  local numbers = {}
  for word in string.gmatch(value .. ' ', '([^ ]*) ') do
    numbers[#numbers + 1] = number(word) or 'none'
  end
  if #numbers ~= 5 then return end
  for _, each in ipairs(numbers) do
    if each == 'none' then return end
  end
  local ends_ms = math.min(numbers[5], now_ms + ttl_ms)
  if ends_ms + REMEMBERED * ttl_ms <= now_ms then return end
  local granted = ends_ms > now_ms and clamp(numbers[4]) or 0
  local holder = {numbers[1], numbers[2], clamp(numbers[3]), granted, ends_ms}
  if name == 'w:' .. worker then
    mine = holder
  else
    holders[name] = holder
    others = others + granted
  end
end

for index = 1, #fields, 2 do
  local name, value = fields[index], fields[index + 1]
  local kind = string.sub(name, 1, 2)
  if kind == 's:' then
    read_slice(name, value)
  elseif kind == 'w:' then
    read_holder(name, value)
  end
end

if not mine or sequence > mine[1] then
  local told = mine and mine[2] == answered and mine[3] or 0
  local before = slices[current] or 0
  slices[current] = clamp(before + spent - told)
  used = used - before + slices[current]
  local granted = math.max(0, math.min(want, limit - math.max(0, used) - others))
  mine = {sequence, answered, spent, granted, now_ms + ttl_ms}
end
holders['w:' .. worker] = mine

local kept_ms = math.min(lifetime_ms, (REMEMBERED + 1) * ttl_ms)
redis.call('DEL', key)
for place, units in pairs(slices) do
  redis.call('HSET', key, 's:' .. text(place), text(units))
  if units ~= 0 then kept_ms = lifetime_ms end
end
for name, holder in pairs(holders) do
  local words = {}
  for index = 1, 5 do
    words[index] = text(holder[index])
  end
  redis.call('HSET', key, name, table.concat(words, ' '))
end
redis.call('PEXPIRE', key, text(kept_ms))
return {mine[4], math.max(0, used), others + mine[4]}
