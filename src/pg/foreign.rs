//! Foreign servers and user mappings, as far as remote models use them.
#![allow(unsafe_code)]

use crate::pg::list;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// A foreign server.
pub struct Server {
    pub name: String,
    /// Name of its foreign-data wrapper.
    pub wrapper: String,
    pub options: Vec<(String, String)>,
    oid: pg_sys::Oid,
    owner: pg_sys::Oid,
}

/// What an option belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Server,
    UserMapping,
    Other,
}

impl Owner {
    /// By the catalogue that PostgreSQL names to a validator.
    pub fn of_catalogue(catalogue: pg_sys::Oid) -> Self {
        match catalogue {
            pg_sys::ForeignServerRelationId => Owner::Server,
            pg_sys::UserMappingRelationId => Owner::UserMapping,
            _ => Owner::Other,
        }
    }
}

/// The foreign server `name`, if there is one.
pub fn server(name: &str) -> Option<Server> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is NUL-terminated; what comes back was allocated in the current memory context, and its parts are
    // NUL-terminated and a list of DefElem.
    unsafe {
        let server = pg_sys::GetForeignServerByName(name.as_ptr(), true).as_ref()?;
        let wrapper = pg_sys::GetForeignDataWrapper(server.fdwid);
        Some(Server {
            name: text(server.servername),
            wrapper: text((*wrapper).fdwname),
            options: options(server.options),
            oid: server.serverid,
            owner: server.owner,
        })
    }
}

impl Server {
    /// Raises PostgreSQL's own error unless the current user has USAGE on the server.
    pub fn require_usage(&self) {
        let name = CString::new(self.name.as_str()).unwrap_or_default();
        // SAFETY: looks up rights of an existing object; the name outlives the call that prints it.
        unsafe {
            let user = pg_sys::GetUserId();
            let mode = pg_sys::AclMode::from(pg_sys::ACL_USAGE);
            #[cfg(feature = "pg15")]
            let found = pg_sys::pg_foreign_server_aclcheck(self.oid, user, mode);
            #[cfg(not(feature = "pg15"))]
            let found = pg_sys::object_aclcheck(pg_sys::ForeignServerRelationId, self.oid, user, mode);
            if found != pg_sys::AclResult::ACLCHECK_OK {
                pg_sys::aclcheck_error(found, pg_sys::ObjectType::OBJECT_FOREIGN_SERVER, name.as_ptr());
            }
        }
    }

    /// Options of the current user's mapping, or of that for everybody; none where there is neither.
    pub fn mapping_options(&self) -> Vec<(String, String)> {
        // SAFETY: the cache is asked with keys of its types, and its tuples are released; the mapping that exists is read,
        // whose options are a list of DefElem.
        unsafe {
            let user = pg_sys::GetUserId();
            if !has_mapping(user, self.oid) && !has_mapping(pg_sys::InvalidOid, self.oid) {
                return Vec::new();
            }
            options((*pg_sys::GetUserMapping(user, self.oid)).options)
        }
    }

    /// Whether a superuser owns the server. Nobody else may be sent what a superuser's mapping names.
    pub fn belongs_to_superuser(&self) -> bool {
        // SAFETY: looks up a role; one that does not exist is no superuser.
        unsafe { pg_sys::superuser_arg(self.owner) }
    }
}

/// Whether the current user is a superuser.
pub fn is_superuser() -> bool {
    // SAFETY: looks up the current role.
    unsafe { pg_sys::superuser() }
}

/// # Safety
/// Must be called in a transaction.
unsafe fn has_mapping(user: pg_sys::Oid, server: pg_sys::Oid) -> bool {
    // Everybody is role 0, which pgrx takes for NULL.
    let (user, server) = (pg_sys::Datum::from(user.to_u32()), pg_sys::Datum::from(server.to_u32()));
    let cache = pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as _;
    // SAFETY: both keys of this cache are object ids; the tuple is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache2(cache, user, server);
        let found = !tuple.is_null();
        if found {
            pg_sys::ReleaseSysCache(tuple);
        }
        found
    }
}

/// # Safety
/// `text` is null or NUL-terminated.
unsafe fn text(text: *const std::ffi::c_char) -> String {
    match text.is_null() {
        true => String::new(),
        // SAFETY: the caller's promise.
        false => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
    }
}

/// # Safety
/// `list` is null or a list of DefElem.
unsafe fn options(list: *mut pg_sys::List) -> Vec<(String, String)> {
    // SAFETY: the caller's promise; defGetString gives a NUL-terminated text.
    unsafe {
        list::pointers::<pg_sys::DefElem>(list)
            .into_iter()
            .map(|option| (text((*option).defname), text(pg_sys::defGetString(option))))
            .collect()
    }
}
