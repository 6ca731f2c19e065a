// The short stop of a visitor who enters by walking back: see `comeBack` in `waiting.js`.
history.go(-2);
setTimeout(function () {
location.replace(decodeURIComponent(location.hash.slice(1)));
}, 20000);
