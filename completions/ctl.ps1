# Completion of ctl for PowerShell. Load it with:
# ctl completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName ctl -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $before = @($commandAst.CommandElements | Select-Object -Skip 1 |
        Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        ForEach-Object {
            if ($_ -is [System.Management.Automation.Language.StringConstantExpressionAst]) { $_.Value }
            else { $_.Extent.Text }
        })
    $program = $commandAst.GetCommandName()
    $saved = $Env:_CTL_COMPLETE, $Env:_CTL_WORDS
    try {
        $Env:_CTL_COMPLETE = 'complete_powershell'
        $Env:_CTL_WORDS = ($before + $wordToComplete) -join "`n"
        $lines = @(& $program 2>$null)
    } finally {
        $Env:_CTL_COMPLETE, $Env:_CTL_WORDS = $saved
    }
    $lines | Select-Object -Skip 1 | ForEach-Object {
        $text, $shown, $help = $_ -split "`t"
        [System.Management.Automation.CompletionResult]::new($text, $shown, 'ParameterValue', $help)
    }
}
