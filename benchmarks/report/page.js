// The command's copy button.

{
  const button = document.getElementById("copy");
  const command = document.getElementById("command");
  const told = document.getElementById("copied");

  function select() {
    const range = document.createRange();
    range.selectNodeContents(command);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }

  button.hidden = !command.textContent;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
    } catch {
      select(); // older browsers, and pages that may not
      if (!document.execCommand("copy")) {
        told.textContent = "The command is selected.";
        return;
      }
    }
    told.textContent = "Copied.";
    button.textContent = "Copied";
    setTimeout(() => {
      told.textContent = "";
      button.textContent = "Copy";
    }, 2000);
  });
}
