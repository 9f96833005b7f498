//! How many requests each role of the database has unanswered, so that one role cannot take the whole server.
//!
//! The limit comes with each request, from a setting that only superusers change: the client is PostgreSQL itself. Counted
//! are requests that compute, embeddings and generations. A request beyond the limit is refused at once, as a connection
//! beyond a role's CONNECTION LIMIT is.

use crate::error::{ModelError, Result};
use pg_rag_protocol::message::Caller;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Unanswered requests by role.
#[derive(Default)]
pub struct Roles {
    running: Mutex<HashMap<u32, u32>>,
}

/// One unanswered request of a role, until it is dropped.
pub struct Running {
    roles: Arc<Roles>,
    role: u32,
}

impl Roles {
    /// Counts a request in.
    ///
    /// Errors: `RoleLimit` if the role has as many as it may.
    pub fn begin(self: &Arc<Self>, caller: Caller) -> Result<Running> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(caller.role).or_default();
        if caller.max_requests > 0 && *count >= caller.max_requests {
            return Err(ModelError::RoleLimit(caller.max_requests));
        }
        *count += 1;
        Ok(Running { roles: self.clone(), role: caller.role })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.roles.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.role) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.role);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_as_many_as_it_may_and_others_are_not_touched() {
        let roles = Arc::new(Roles::default());
        let caller = |role, max_requests| Caller { role, max_requests };
        let first = roles.begin(caller(1, 2)).unwrap();
        let _second = roles.begin(caller(1, 2)).unwrap();
        assert!(matches!(roles.begin(caller(1, 2)), Err(ModelError::RoleLimit(2))));
        let _other = roles.begin(caller(2, 1)).unwrap();
        let _unlimited = roles.begin(caller(1, 0)).unwrap();
        drop(first);
        assert!(roles.begin(caller(1, 2)).is_err(), "the unlimited one counts");
        assert!(roles.begin(caller(1, 3)).is_ok());
    }
}
