clipView().show(JSON.parse($("data").textContent));
