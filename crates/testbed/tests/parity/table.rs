//! The table in docs/reference/vmrun.md holds all that vmrun and VIX can do, and the tests that it names are there.

use std::collections::BTreeSet;
use std::path::Path;

const TABLE: &str = include_str!("../../../../docs/reference/vmrun.md");

/// What the usage text of vmrun 1.17.0 lists, and what older ones did.
const VERBS: &[&str] = &[
    "start",
    "stop",
    "reset",
    "suspend",
    "pause",
    "unpause",
    "listSnapshots",
    "snapshot",
    "deleteSnapshot",
    "revertToSnapshot",
    "listNetworkAdapters",
    "addNetworkAdapter",
    "setNetworkAdapter",
    "deleteNetworkAdapter",
    "listHostNetworks",
    "listPortForwardings",
    "setPortForwarding",
    "deletePortForwarding",
    "runProgramInGuest",
    "runScriptInGuest",
    "listProcessesInGuest",
    "killProcessInGuest",
    "fileExistsInGuest",
    "directoryExistsInGuest",
    "deleteFileInGuest",
    "createDirectoryInGuest",
    "deleteDirectoryInGuest",
    "CreateTempfileInGuest",
    "listDirectoryInGuest",
    "CopyFileFromHostToGuest",
    "CopyFileFromGuestToHost",
    "renameFileInGuest",
    "setSharedFolderState",
    "addSharedFolder",
    "removeSharedFolder",
    "enableSharedFolders",
    "disableSharedFolders",
    "typeKeystrokesInGuest",
    "connectNamedDevice",
    "disconnectNamedDevice",
    "captureScreen",
    "writeVariable",
    "readVariable",
    "getGuestIPAddress",
    "list",
    "upgradevm",
    "installTools",
    "checkToolsState",
    "deleteVM",
    "clone",
    "downloadPhotonVM",
    "register",
    "unregister",
    "listRegisteredVM",
];

/// The functions of the VIX library.
const FUNCTIONS: &[&str] = &[
    "Vix_AddRefHandle",
    "Vix_FreeBuffer",
    "Vix_GetErrorText",
    "Vix_GetHandleType",
    "Vix_GetProperties",
    "Vix_GetPropertyType",
    "Vix_PumpEvents",
    "Vix_ReleaseHandle",
    "VixHost_Connect",
    "VixHost_Disconnect",
    "VixHost_FindItems",
    "VixHost_OpenVM",
    "VixHost_RegisterVM",
    "VixHost_UnregisterVM",
    "VixJob_CheckCompletion",
    "VixJob_GetError",
    "VixJob_GetNthProperties",
    "VixJob_GetNumProperties",
    "VixJob_Wait",
    "VixSnapshot_GetChild",
    "VixSnapshot_GetNumChildren",
    "VixSnapshot_GetParent",
    "VixVM_AddSharedFolder",
    "VixVM_BeginRecording",
    "VixVM_CaptureScreenImage",
    "VixVM_Clone",
    "VixVM_CopyFileFromGuestToHost",
    "VixVM_CopyFileFromHostToGuest",
    "VixVM_CreateDirectoryInGuest",
    "VixVM_CreateSnapshot",
    "VixVM_CreateTempFileInGuest",
    "VixVM_Delete",
    "VixVM_DeleteDirectoryInGuest",
    "VixVM_DeleteFileInGuest",
    "VixVM_DirectoryExistsInGuest",
    "VixVM_EnableSharedFolders",
    "VixVM_EndRecording",
    "VixVM_FileExistsInGuest",
    "VixVM_GetCurrentSnapshot",
    "VixVM_GetFileInfoInGuest",
    "VixVM_GetNamedSnapshot",
    "VixVM_GetNumRootSnapshots",
    "VixVM_GetNumSharedFolders",
    "VixVM_GetRootSnapshot",
    "VixVM_GetSharedFolderState",
    "VixVM_InstallTools",
    "VixVM_KillProcessInGuest",
    "VixVM_ListDirectoryInGuest",
    "VixVM_ListProcessesInGuest",
    "VixVM_LoginInGuest",
    "VixVM_LogoutFromGuest",
    "VixVM_OpenUrlInGuest",
    "VixVM_Pause",
    "VixVM_PowerOff",
    "VixVM_PowerOn",
    "VixVM_ReadVariable",
    "VixVM_RemoveSharedFolder",
    "VixVM_RemoveSnapshot",
    "VixVM_RenameFileInGuest",
    "VixVM_Reset",
    "VixVM_RevertToSnapshot",
    "VixVM_RunProgramInGuest",
    "VixVM_RunScriptInGuest",
    "VixVM_SetSharedFolderState",
    "VixVM_Suspend",
    "VixVM_Unpause",
    "VixVM_UpgradeVirtualHardware",
    "VixVM_WaitForToolsInGuest",
    "VixVM_WriteVariable",
];

/// The cells of all rows, heads left out.
fn rows() -> Vec<Vec<&'static str>> {
    let cells = |line: &'static str| Some(line.strip_prefix("| ")?.strip_suffix('|')?.split('|').collect());
    let lines: Vec<&str> = TABLE.lines().collect();
    let is_head = |number: usize| lines.get(number + 1).is_some_and(|next| next.starts_with("|---"));
    let rows = lines.iter().enumerate().filter(|(number, _)| !is_head(*number));
    let rows: Vec<Vec<&str>> = rows.filter_map(|(_, line)| cells(line)).collect();
    rows.into_iter().map(|row| row.into_iter().map(str::trim).collect()).collect()
}

/// What a cell has in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// `module::function` of all tests in a folder, and in those below.
fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let (module, text) = (path.file_stem().unwrap(), std::fs::read_to_string(&path).unwrap());
            let functions = text
                .split("#[test]\n")
                .skip(1)
                .filter_map(|rest| rest.strip_prefix("fn ")?.split('(').next());
            found.extend(functions.map(|function| format!("{}::{function}", module.display())));
        }
    }
}

#[test]
fn all_verbs_and_functions_have_a_row() {
    let rows = rows();
    let words: BTreeSet<&str> =
        rows.iter().flat_map(|row| quoted(row[0])).flat_map(|text| text.split(' ').next()).collect();
    let missing: Vec<_> = VERBS.iter().chain(FUNCTIONS).filter(|word| !words.contains(**word)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_row_has_a_test_or_says_that_there_is_none() {
    let mut tests = BTreeSet::new();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    tests_in(&crates.join("testbed/tests"), &mut tests);
    tests_in(&crates.join("testbed-cli/tests"), &mut tests);
    let rows = rows();
    assert!(rows.len() > 80, "{}", rows.len());
    for row in rows {
        let named: Vec<&str> = quoted(row[row.len() - 1]).collect();
        let says_none = row[1].starts_with("*none*");
        assert_eq!(named.is_empty(), says_none, "{row:?}");
        for test in named {
            assert!(tests.contains(test), "there is no test `{test}`: {row:?}");
        }
    }
}
